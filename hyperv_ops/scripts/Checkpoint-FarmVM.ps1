<#
.SYNOPSIS
Makes the clean checkpoint of a machine, to which Restore-FarmVM takes it back.

.DESCRIPTION
The machine has to be off: then the checkpoint holds its disk alone, and what is restored boots afresh instead of going
on with memory from another time. One of the same name is replaced; the new one is made first.

.PARAMETER Name
The machine.

.PARAMETER Checkpoint
What the checkpoint is called.

.EXAMPLE
.\Checkpoint-FarmVM.ps1 -Name vm-1 -Checkpoint clean
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

$machine = Get-Machine $Name
if ("$($machine.State)" -ne 'Off') {
    Stop-Because 'NotAllowed' "${Name}: is $($machine.State); a clean checkpoint needs it off, stop it first"
}
$old = @(Hyper-V\Get-VMSnapshot -VM $machine | Where-Object { $_.Name -eq $Checkpoint })
if ($PSCmdlet.ShouldProcess($Name, "make the checkpoint $Checkpoint, in place of $($old.Count)")) {
    try {
        # Standard: a machine that is off has no memory to leave out, and no guest to ask.
        Hyper-V\Set-VM -VM $machine -CheckpointType Standard -Confirm:$false
        Hyper-V\Checkpoint-VM -VM $machine -SnapshotName $Checkpoint -Confirm:$false
    } finally {
        Hyper-V\Set-VM -VM $machine -CheckpointType Disabled -Confirm:$false
    }
    foreach ($snapshot in $old) {
        Hyper-V\Remove-VMSnapshot -VMSnapshot $snapshot -Confirm:$false
    }
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{ name = $machine.Name; checkpoint = $Checkpoint })
