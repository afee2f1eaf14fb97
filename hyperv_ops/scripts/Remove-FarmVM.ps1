<#
.SYNOPSIS
Removes a machine with its checkpoints and its own disks.

.DESCRIPTION
The power is cut, the machine removed, and its folder <Folder>\<Name> deleted; nothing outside of that folder is
touched. A machine whose disks lie elsewhere is not the farm's and is refused, and so is a folder that holds a read-only
disk: that is a template. A machine that is gone already is no error; what it left in its folder is deleted.

.PARAMETER Name
The machine.

.PARAMETER Folder
The folder of all machines, as it was given to New-FarmVM.

.EXAMPLE
.\Remove-FarmVM.ps1 -Name vm-1 -Folder D:\farm
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name,

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]+\z')]
    [string] $Folder
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

$ownFolder = Join-Path -Path ([System.IO.Path]::GetFullPath($Folder)) -ChildPath $Name
$machine = $null
try {
    $machine = Get-Machine $Name
} catch {
    if ($_.FullyQualifiedErrorId -ne 'NoSuchMachine') { throw }
}

if ($null -ne $machine) {
    foreach ($drive in @(Hyper-V\Get-VMHardDiskDrive -VM $machine)) {
        if (-not "$($drive.Path)".StartsWith("$ownFolder\", [System.StringComparison]::OrdinalIgnoreCase)) {
            Stop-Because 'NotAllowed' "${Name}: $($drive.Path) is not in $ownFolder; remove it by hand"
        }
    }
}
$hasFolder = Test-Path -LiteralPath $ownFolder -PathType Container
if ($hasFolder) {
    if ((Get-Item -LiteralPath $ownFolder -Force).Attributes -band [System.IO.FileAttributes]::ReparsePoint) {
        Stop-Because 'NotAllowed' "${ownFolder}: is a link to another folder; remove it by hand"
    }
    $kept = @(Get-ChildItem -LiteralPath $ownFolder -Recurse -File -Force |
        Where-Object { $_.IsReadOnly -and $_.Extension -in '.vhd', '.vhdx' })
    if ($kept.Count -gt 0) {
        Stop-Because 'NotAllowed' "$($kept[0].FullName): is read-only like a template; move it elsewhere"
    }
}

$removed = $false
$isThere = $null -ne $machine -or $hasFolder
if ($isThere -and $PSCmdlet.ShouldProcess($Name, "remove it, and delete $ownFolder")) {
    if ($null -ne $machine) {
        Stop-Power $machine
        Hyper-V\Remove-VM -VM $machine -Force -Confirm:$false
        $removed = $true
    }
    # Hyper-V merges what the checkpoints held and lets go of the files a little later.
    $deadline = [datetime]::UtcNow.AddSeconds(60)
    while (Test-Path -LiteralPath $ownFolder) {
        try {
            Remove-Item -LiteralPath $ownFolder -Recurse -Force -Confirm:$false
            $removed = $true
        } catch {
            if ([datetime]::UtcNow -ge $deadline) {
                Stop-Because 'TimedOut' "${ownFolder}: $($_.Exception.Message) Run this again in a minute"
            }
            Start-Sleep -Seconds 2
        }
    }
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{ name = $Name; removed = $removed })
