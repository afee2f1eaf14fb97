<#
.SYNOPSIS
Restarts the agent of a machine by its logon task.

.DESCRIPTION
Ends and starts the scheduled task, through PowerShell Direct. The task belongs to the user who is logged on at the
console, so the agent comes back on the desktop. It is never started directly: PowerShell Direct lives in session 0,
which has no desktop, and a game there would draw nothing.

.PARAMETER Name
The machine.

.PARAMETER Account
An administrator of the guest, without the computer's name, which differs from clone to clone.

.PARAMETER Secret
The password of that account.

.PARAMETER Task
The agent's logon task, in the root folder of the task scheduler.

.PARAMETER TimeoutSeconds
How long the guest may take.

.EXAMPLE
.\Restart-FarmVMAgent.ps1 -Name vm-1 -Account farm -Secret $secret -Task inbox-agent

.NOTES
By hand, read the secret into a variable first: what is typed on a command line is kept in its history.
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name,

    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Account,

    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Secret,

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9 _-]{0,62}\z')]
    [string] $Task,

    [ValidateRange(1, 600)]
    [int] $TimeoutSeconds = 60
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
# Commands that are functions of modules do not see this script's $ErrorActionPreference; this reaches them.
$PSDefaultParameterValues = @{ '*:ErrorAction' = 'Stop' }

function Stop-Because([string] $Reason, [string] $Message) {
    throw [System.Management.Automation.ErrorRecord]::new(
        [System.InvalidOperationException]::new($Message), $Reason, 'NotSpecified', $null)
}

function Get-Machine([string] $Name) {
    # The name holds no wildcard (ValidatePattern): this finds that machine or none.
    try {
        $found = @(Hyper-V\Get-VM -Name $Name -ErrorAction SilentlyContinue -ErrorVariable problems)
    } catch [System.Management.Automation.CommandNotFoundException] {
        Stop-Because 'NoHyperV' "${env:COMPUTERNAME}: no Hyper-V module; turn on the Windows feature Hyper-V"
    }
    if ($found.Count -eq 1) { return $found[0] }
    if ($found.Count -gt 1) {
        Stop-Because 'NotAllowed' "${Name}: $($found.Count) machines have this name; rename all but one"
    }
    # A machine that does not exist is an invalid argument; of anything else it does not follow that there is none.
    $unclear = @($problems | Where-Object { "$($_.CategoryInfo.Category)" -ne 'InvalidArgument' })
    if (@($unclear | Where-Object { "$($_.CategoryInfo.Category)" -eq 'PermissionDenied' }).Count -gt 0) {
        Stop-Because 'NotAllowed' "${env:COMPUTERNAME}: not allowed; join Hyper-V Administrators and log on again"
    }
    if ($unclear.Count -gt 0) { throw $unclear[0] }
    Stop-Because 'NoSuchMachine' "${Name}: no such machine on ${env:COMPUTERNAME}; New-FarmVM makes it"
}

$machine = Get-Machine $Name
if ("$($machine.State)" -ne 'Running') {
    Stop-Because 'GuestRefused' "${Name}: is $($machine.State); start it first"
}
$state = ''
if ($PSCmdlet.ShouldProcess($Name, "restart the task $Task")) {
    $credential = [pscredential]::new($Account, (ConvertTo-SecureString -String $Secret -AsPlainText -Force))
    $answer = $null
    try {
        $job = Invoke-Command -VMId $machine.Id -Credential $credential -AsJob -ArgumentList $Task -ScriptBlock {
            param([string] $Task)
            $ErrorActionPreference = 'Stop'
            $ProgressPreference = 'SilentlyContinue'
            ScheduledTasks\Stop-ScheduledTask -TaskName $Task -TaskPath '\'
            # Started while its last instance is still leaving, it would be ignored.
            $deadline = [datetime]::UtcNow.AddSeconds(15)
            while ("$((ScheduledTasks\Get-ScheduledTask -TaskName $Task -TaskPath '\').State)" -eq 'Running' -and
                [datetime]::UtcNow -lt $deadline) {
                Start-Sleep -Milliseconds 200
            }
            ScheduledTasks\Start-ScheduledTask -TaskName $Task -TaskPath '\'
            Start-Sleep -Seconds 1
            "$((ScheduledTasks\Get-ScheduledTask -TaskName $Task -TaskPath '\').State)"
        }
        # Of a guest that does not answer the job is left alone: to stop it would wait for the guest as well.
        if (Wait-Job -Job $job -Timeout $TimeoutSeconds) {
            $answer = Receive-Job -Job $job -ErrorAction Stop
        }
    } catch {
        Stop-Because 'GuestRefused' "${Name}: task $Task as ${Account}: $($_.Exception.Message)"
    }
    if ($null -eq $answer) {
        Stop-Because 'TimedOut' "${Name}: the guest has not answered within $TimeoutSeconds s; restart the machine"
    }
    $state = "$answer"
    if ($state -ne 'Running') {
        Stop-Because 'GuestRefused' "${Name}: task $Task is $state, is nobody logged on? restart the machine"
    }
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{ name = $machine.Name; task = $Task; state = $state })
