<#
.SYNOPSIS
Runs a program in a machine and tells its exit code and output.

.DESCRIPTION
Through PowerShell Direct: it needs no network, but a running guest and an account there. The program runs in session 0,
which has no desktop: this is for looking and repairing, never for starting the agent or a game.
A program that takes too long is ended in the guest.

.PARAMETER Name
The machine.

.PARAMETER Account
An administrator of the guest, without the computer's name, which differs from clone to clone.

.PARAMETER Secret
The password of that account.

.PARAMETER FilePath
The program, as a path in the guest or a name on its PATH.

.PARAMETER ArgumentList
Its arguments, one each. Nothing in them is taken apart or expanded.

.PARAMETER TimeoutSeconds
How long the program may take.

.EXAMPLE
.\Invoke-FarmVMCommand.ps1 -Name vm-1 -Account farm -Secret $secret -FilePath ipconfig.exe -ArgumentList /all

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
    [ValidateNotNullOrEmpty()]
    [string] $FilePath,

    [AllowEmptyCollection()]
    [AllowEmptyString()]
    [string[]] $ArgumentList = @(),

    [ValidateRange(1, 3600)]
    [int] $TimeoutSeconds = 60
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

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
$exitCode = $null
$output = ''
if ($PSCmdlet.ShouldProcess($Name, "run $FilePath")) {
    $credential = [pscredential]::new($Account, (ConvertTo-SecureString -String $Secret -AsPlainText -Force))
    $answer = $null
    try {
        $job = Invoke-Command -VMId $machine.Id -Credential $credential -AsJob `
            -ArgumentList $FilePath, $ArgumentList, $TimeoutSeconds -ScriptBlock {
                param([string] $FilePath, [string[]] $ArgumentList, [int] $TimeoutSeconds)
                $ErrorActionPreference = 'Stop'
                # Windows programs get one line and take it apart themselves: quoted by the rules of their C library.
                $line = @($ArgumentList | ForEach-Object {
                    '"' + ($_ -replace '(\\*)"', '$1$1\"' -replace '(\\+)$', '$1$1') + '"'
                }) -join ' '
                $start = [System.Diagnostics.ProcessStartInfo]::new($FilePath, $line)
                $start.UseShellExecute = $false
                $start.CreateNoWindow = $true
                $start.RedirectStandardOutput = $true
                $start.RedirectStandardError = $true
                $process = [System.Diagnostics.Process]::Start($start)
                # Both are read while it runs: a pipe that nobody empties would stop it.
                $out = $process.StandardOutput.ReadToEndAsync()
                $problems = $process.StandardError.ReadToEndAsync()
                if (-not $process.WaitForExit($TimeoutSeconds * 1000)) {
                    $process.Kill()
                    return [pscustomobject]@{ timed_out = $true; exit_code = 0; output = '' }
                }
                [pscustomobject]@{
                    timed_out = $false; exit_code = $process.ExitCode; output = $out.Result + $problems.Result
                }
            }
        # The guest keeps the time; this limit is for a guest that does not answer. Its job is left alone then:
        # to stop it would wait for the guest as well.
        if (Wait-Job -Job $job -Timeout ($TimeoutSeconds + 30)) {
            $answer = Receive-Job -Job $job -ErrorAction Stop
        }
    } catch {
        Stop-Because 'GuestRefused' "${Name}: $FilePath as ${Account}: $($_.Exception.Message)"
    }
    if ($null -eq $answer -or $answer.timed_out) {
        Stop-Because 'TimedOut' "${Name}: $FilePath has not ended within $TimeoutSeconds s; allow it more"
    }
    $exitCode = [int] $answer.exit_code
    $output = "$($answer.output)"
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    name = $machine.Name; exit_code = $exitCode; output = $output
})
