<#
.SYNOPSIS
Gives a machine power, and does not wait for its Windows.

.DESCRIPTION
A machine that is off or saved is started, a paused one goes on. One that runs is left alone.

.PARAMETER Name
The machine.

.EXAMPLE
.\Start-FarmVM.ps1 -Name vm-1
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name
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
$state = "$($machine.State)"
if ($state -notin 'Running', 'Starting', 'Resuming' -and $PSCmdlet.ShouldProcess($Name, "start, it is $state")) {
    try {
        if ($state -eq 'Paused') {
            Hyper-V\Resume-VM -VM $machine -Confirm:$false
        } else {
            Hyper-V\Start-VM -VM $machine -Confirm:$false
        }
    } catch {
        # E_OUTOFMEMORY stands in the message in every language.
        if ("$($_.Exception.Message)" -notlike '*0x8007000E*') { throw }
        Stop-Because 'NoSpace' "${Name}: the host has not enough free memory; stop a machine, or give each one less"
    }
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    name = $machine.Name; state = "$((Hyper-V\Get-VM -Id $machine.Id).State)"
})
