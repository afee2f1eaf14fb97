<#
.SYNOPSIS
Shuts a machine down through its Windows, or cuts its power.

.DESCRIPTION
Without -TurnOff the guest is asked to shut down, and the answer comes when it is off or when the time is over: the
power is never cut. Stop-VM is no help with this: it offers to turn the machine off when the guest does not listen, and
with -Force it does so after five minutes. So the guest is asked through Msvm_ShutdownComponent, which returns at once.

With -TurnOff the power is cut. A machine can hang in Stopping; after half of the time the worker process of this
machine, and of no other, is ended. That takes an administrator; without one it is only waited for.

A machine that is saved counts as off. One that is on its way down already is waited for.

.PARAMETER Name
The machine.

.PARAMETER TimeoutSeconds
When to give up.

.PARAMETER TurnOff
Cuts the power instead of asking the guest.

.EXAMPLE
.\Stop-FarmVM.ps1 -Name vm-1 -TimeoutSeconds 120

.EXAMPLE
.\Stop-FarmVM.ps1 -Name vm-1 -TimeoutSeconds 60 -TurnOff
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name,

    [Parameter(Mandatory)]
    [ValidateRange(1, 3600)]
    [int] $TimeoutSeconds,

    [switch] $TurnOff
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

function Get-State([guid] $Id) {
    "$((Hyper-V\Get-VM -Id $Id).State)"
}

function Wait-Off([guid] $Id, [datetime] $Until) {
    while ((Get-State $Id) -notin 'Off', 'Saved') {
        if ([datetime]::UtcNow -ge $Until) { return $false }
        Start-Sleep -Milliseconds 500
    }
    return $true
}

$began = [datetime]::UtcNow
$half = $began.AddSeconds($TimeoutSeconds / 2)
$deadline = $began.AddSeconds($TimeoutSeconds)
$machine = Get-Machine $Name
$state = "$($machine.State)"

if ($TurnOff -and $state -ne 'Off' -and $PSCmdlet.ShouldProcess($Name, "cut the power, it is $state")) {
    if ($state -eq 'Saved') {
        Hyper-V\Remove-VMSavedState -VM $machine -Confirm:$false
    } else {
        # As a job: the cmdlet itself can hang together with its machine.
        $job = Hyper-V\Stop-VM -VM $machine -TurnOff -Force -AsJob -Confirm:$false
        Wait-Job -Job $job -Timeout ([System.Math]::Max(1, [int] ($TimeoutSeconds / 2))) | Out-Null
    }
    if (-not (Wait-Off $machine.Id $half)) {
        try {
            $workers = @(CimCmdlets\Get-CimInstance -ClassName Win32_Process -Filter "Name = 'vmwp.exe'" |
                Where-Object { "$($_.CommandLine)" -like "*$($machine.Id)*" })
            if ($workers.Count -eq 1) {
                Stop-Process -Id $workers[0].ProcessId -Force -Confirm:$false
            }
        } catch {
            Write-Verbose -Message "Its worker process cannot be ended: $($_.Exception.Message)"
        }
        if (-not (Wait-Off $machine.Id $deadline)) {
            Stop-Because 'TimedOut' ("${Name}: still $(Get-State $machine.Id) after $TimeoutSeconds s; " +
                'try again as an administrator, then restart the host')
        }
    }
}

if (-not $TurnOff -and $state -notin 'Off', 'Saved' -and
    $PSCmdlet.ShouldProcess($Name, "ask the guest to shut down, it is $state")) {
    $asked = $false
    do {
        # A guest that is booting or frozen does not hear; it is asked again while there is time.
        if (-not $asked -and (Get-State $machine.Id) -eq 'Running') {
            $answer = CimCmdlets\Get-CimInstance -Namespace root/virtualization/v2 -ClassName Msvm_ShutdownComponent `
                -Filter "SystemName = '$($machine.Id)'" |
                CimCmdlets\Invoke-CimMethod -MethodName InitiateShutdown -Confirm:$false `
                    -Arguments @{ Force = $true; Reason = 'genome-pipeline' } -ErrorAction SilentlyContinue
            # 0 and 4096: it was heard; 32782: it is shutting down already.
            $asked = $null -ne $answer -and $answer.ReturnValue -in 0, 4096, 32782
        }
        $next = [datetime]::UtcNow.AddSeconds(2)
        $isOff = Wait-Off $machine.Id $(if ($next -lt $deadline) { $next } else { $deadline })
    } while (-not $isOff -and [datetime]::UtcNow -lt $deadline)
}

$state = Get-State $machine.Id
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    name = $machine.Name; state = $state; off = $state -in 'Off', 'Saved'
})
