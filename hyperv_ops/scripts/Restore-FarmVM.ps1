<#
.SYNOPSIS
Takes a machine back to its clean checkpoint. It is off afterwards.

.DESCRIPTION
The power is cut first: what the machine was doing is lost anyway. Everything on its disk since the checkpoint is gone.

.PARAMETER Name
The machine.

.PARAMETER Checkpoint
The checkpoint; the newest, if there are several of that name.

.EXAMPLE
.\Restore-FarmVM.ps1 -Name vm-1 -Checkpoint clean
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name,

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}\z')]
    [string] $Checkpoint
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

function Stop-Power($Machine) {
    # As a job: the cmdlet itself can hang together with its machine.
    if ("$($Machine.State)" -eq 'Off') { return }
    if ("$($Machine.State)" -eq 'Saved') {
        Hyper-V\Remove-VMSavedState -VM $Machine -Confirm:$false
        return
    }
    $job = Hyper-V\Stop-VM -VM $Machine -TurnOff -Force -AsJob -Confirm:$false
    Wait-Job -Job $job -Timeout 30 | Out-Null
    $state = "$((Hyper-V\Get-VM -Id $Machine.Id).State)"
    if ($state -ne 'Off') {
        Stop-Because 'TimedOut' "$($Machine.Name): still $state after 30 s; Stop-FarmVM -TurnOff goes further"
    }
}

$machine = Get-Machine $Name
$snapshot = Hyper-V\Get-VMSnapshot -VM $machine | Where-Object { $_.Name -eq $Checkpoint } |
    Sort-Object -Property CreationTime | Select-Object -Last 1
if ($null -eq $snapshot) {
    Stop-Because 'NoCheckpoint' "${Name}: has no checkpoint $Checkpoint; stop it, then Checkpoint-FarmVM makes it"
}
if ($PSCmdlet.ShouldProcess($Name, "go back to the checkpoint $Checkpoint; what came later is lost")) {
    Stop-Power $machine
    Hyper-V\Restore-VMSnapshot -VMSnapshot $snapshot -Confirm:$false
    # A checkpoint that somebody made of a running machine brings its memory along.
    if ("$((Hyper-V\Get-VM -Id $machine.Id).State)" -eq 'Saved') {
        Hyper-V\Remove-VMSavedState -VM $machine -Confirm:$false
    }
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    name = $machine.Name; checkpoint = $Checkpoint; state = "$((Hyper-V\Get-VM -Id $machine.Id).State)"
})
