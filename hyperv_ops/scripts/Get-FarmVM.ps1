<#
.SYNOPSIS
Tells how the named machines are.

.DESCRIPTION
Answers with a JSON array: one object for each of the names that is a virtual machine of this host. A name that is
none is left out, and no other machine is looked at.

.PARAMETER Name
The machines to ask about.

.EXAMPLE
.\Get-FarmVM.ps1 -Name vm-1, vm-2
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string[]] $Name
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Stop-Because([string] $Reason, [string] $Message) {
    throw [System.Management.Automation.ErrorRecord]::new(
        [System.InvalidOperationException]::new($Message), $Reason, 'NotSpecified', $null)
}

# No name holds a wildcard (ValidatePattern): these are the named machines or none.
try {
    $machines = @(Hyper-V\Get-VM -Name $Name -ErrorAction SilentlyContinue -ErrorVariable problems)
} catch [System.Management.Automation.CommandNotFoundException] {
    Stop-Because 'NoHyperV' "${env:COMPUTERNAME}: no Hyper-V module; turn on the Windows feature Hyper-V"
}
# A machine that does not exist is an invalid argument; of anything else it does not follow that there is none.
$unclear = @($problems | Where-Object { "$($_.CategoryInfo.Category)" -ne 'InvalidArgument' })
if (@($unclear | Where-Object { "$($_.CategoryInfo.Category)" -eq 'PermissionDenied' }).Count -gt 0) {
    Stop-Because 'NotAllowed' "${env:COMPUTERNAME}: not allowed; join Hyper-V Administrators and log on again"
}
if ($unclear.Count -gt 0) { throw $unclear[0] }

$answers = @(foreach ($machine in $machines) {
    [pscustomobject]@{
        name = $machine.Name
        id = "$($machine.Id)"
        state = "$($machine.State)"
        heartbeat = "$($machine.Heartbeat)"
        uptime_s = [int64] $machine.Uptime.TotalSeconds
        cpu_percent = [int] $machine.CPUUsage
        memory_mb = [int64] ($machine.MemoryAssigned / 1mb)
        processors = [int] $machine.ProcessorCount
        addresses = [string[]] @(Hyper-V\Get-VMNetworkAdapter -VM $machine | ForEach-Object { $_.IPAddresses })
        checkpoints = [string[]] @(Hyper-V\Get-VMSnapshot -VM $machine | ForEach-Object { $_.Name })
    }
})
ConvertTo-Json -Compress -Depth 4 -InputObject $answers
