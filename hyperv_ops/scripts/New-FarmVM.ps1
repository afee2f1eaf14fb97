<#
.SYNOPSIS
Makes a machine from the template: a differencing disk and a virtual machine around it.

.DESCRIPTION
The disk is <Folder>\<Name>\<Name>.vhdx and holds only what differs from the template. The template is made read-only
first: a parent that changes spoils all its clones.
A machine that exists on the same template is left as it is, unless it is off and was left half made: then it is
finished. What fails halfway is taken away again.

Checkpoints are disabled: a checkpoint that nobody asked for grows a second disk and is restored by mistake.
Checkpoint-FarmVM allows them for the moment in which it makes the clean one; Restore-FarmVM needs no permission.

.PARAMETER Name
The new machine.

.PARAMETER Template
The template disk, .vhdx. No machine may be running on it.

.PARAMETER Folder
The folder of all machines; each gets a folder of its own below it.

.PARAMETER Switch
The virtual switch it is plugged into.

.PARAMETER MemoryMinMb
What it keeps when the host is short of memory.

.PARAMETER MemoryStartMb
What it boots with.

.PARAMETER MemoryMaxMb
The most it is ever given.

.PARAMETER Processors
How many virtual processors it has.

.PARAMETER StartDelaySeconds
How long after the host's own start it starts; a stagger keeps many machines from booting at once.

.PARAMETER SpareGb
Free space the folder's drive must have.

.PARAMETER Notes
A remark that Hyper-V keeps with the machine.

.EXAMPLE
.\New-FarmVM.ps1 -Name vm-1 -Template D:\templates\game.vhdx -Folder D:\farm -Switch farm -StartDelaySeconds 15

.NOTES
Needs Windows 10 version 1809, Windows Server 2019, or later.
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name,

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]+\.vhdx\z')]
    [string] $Template,

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]+\z')]
    [string] $Folder,

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9 _-]{0,62}\z')]
    [string] $Switch,

    [ValidateRange(512, 1048576)]
    [int] $MemoryMinMb = 1024,

    [ValidateRange(512, 1048576)]
    [int] $MemoryStartMb = 2048,

    [ValidateRange(512, 1048576)]
    [int] $MemoryMaxMb = 4096,

    [ValidateRange(1, 64)]
    [int] $Processors = 2,

    [ValidateRange(0, 3600)]
    [int] $StartDelaySeconds = 0,

    [ValidateRange(0, 4096)]
    [int] $SpareGb = 5,

    [ValidateLength(0, 400)]
    [string] $Notes = ''
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Stop-Because([string] $Reason, [string] $Message) {
    throw [System.Management.Automation.ErrorRecord]::new(
        [System.InvalidOperationException]::new($Message), $Reason, 'NotSpecified', $null)
}

function Complete-Machine($Machine) {
    # All of them: heartbeat, shutdown, addresses, time, files. Their names are translated, so none is named.
    Hyper-V\Get-VMIntegrationService -VM $Machine | Where-Object { -not $_.Enabled } |
        Hyper-V\Enable-VMIntegrationService -Confirm:$false
    # Last: that checkpoints are disabled tells that all was done.
    Hyper-V\Set-VM -VM $Machine -ProcessorCount $Processors -DynamicMemory `
        -MemoryMinimumBytes ($MemoryMinMb * 1mb) -MemoryMaximumBytes ($MemoryMaxMb * 1mb) `
        -AutomaticStartAction Start -AutomaticStartDelay $StartDelaySeconds -AutomaticStopAction ShutDown `
        -AutomaticCheckpointsEnabled $false -CheckpointType Disabled -Notes $Notes -Confirm:$false
}

function Test-StandsOn([string] $Disk, [string] $Parent) {
    while ($Disk -ne '') {
        if ($Disk -eq $Parent) { return $true }
        $Disk = "$((Hyper-V\Get-VHD -Path $Disk).ParentPath)"
    }
    return $false
}

try {
    $machines = @(Hyper-V\Get-VM | Where-Object { $_.Name -eq $Name })
} catch [System.Management.Automation.CommandNotFoundException] {
    Stop-Because 'NoHyperV' "${env:COMPUTERNAME}: no Hyper-V module; turn on the Windows feature Hyper-V"
}
$Template = [System.IO.Path]::GetFullPath($Template)
$Folder = [System.IO.Path]::GetFullPath($Folder)
$ownFolder = Join-Path -Path $Folder -ChildPath $Name
$disk = Join-Path -Path $ownFolder -ChildPath "$Name.vhdx"

if (-not (Test-Path -LiteralPath $Template -PathType Leaf)) {
    Stop-Because 'NoSuchTemplate' "${Template}: no such file; docs/template-vm.md tells how it is made"
}
if ($machines.Count -gt 0) {
    $disks = @(Hyper-V\Get-VMHardDiskDrive -VM $machines[0])
    if ($machines.Count -gt 1 -or $disks.Count -eq 0 -or -not (Test-StandsOn "$($disks[0].Path)" $Template)) {
        Stop-Because 'Exists' "${Name}: another machine has this name; choose another one, or remove that one"
    }
    $isHalfMade = "$($machines[0].State)" -eq 'Off' -and "$($machines[0].CheckpointType)" -ne 'Disabled'
    if ($isHalfMade -and $PSCmdlet.ShouldProcess($Name, 'finish what was left half made')) {
        Complete-Machine $machines[0]
    }
    ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
        name = $Name; id = "$($machines[0].Id)"; disk = "$($disks[0].Path)"; created = $false
    })
    return
}
if (Test-Path -LiteralPath $disk) {
    Stop-Because 'Exists' "${disk}: a disk without its machine; Remove-FarmVM -Name $Name takes it away"
}
if (@(Hyper-V\Get-VMSwitch | Where-Object { $_.Name -eq $Switch }).Count -eq 0) {
    Stop-Because 'NoSwitch' "${Switch}: no such switch on ${env:COMPUTERNAME}; New-FarmSwitch makes it"
}
$users = @(Hyper-V\Get-VM | Where-Object { "$($_.State)" -ne 'Off' } | ForEach-Object {
    Hyper-V\Get-VMHardDiskDrive -VM $_ | Where-Object { $_.Path -eq $Template }
})
if ($users.Count -gt 0) {
    Stop-Because 'BadTemplate' "${Template}: $($users[0].VMName) is using it; shut that machine down first"
}
try {
    Hyper-V\Get-VHD -Path $Template | Out-Null
} catch {
    Stop-Because 'BadTemplate' "${Template}: not a virtual disk that can be used: $($_.Exception.Message)"
}
if ([System.IO.DriveInfo]::new([System.IO.Path]::GetPathRoot($Folder)).AvailableFreeSpace -lt $SpareGb * 1gb) {
    Stop-Because 'NoSpace' "${Folder}: less than $SpareGb GB are free on its drive; free some, or set -SpareGb"
}

$id = ''
$created = $false
if ($PSCmdlet.ShouldProcess($Name, "make a machine on $Template")) {
    $machine = $null
    $hadFolder = Test-Path -LiteralPath $ownFolder
    try {
        Set-ItemProperty -LiteralPath $Template -Name IsReadOnly -Value $true
        New-Item -ItemType Directory -Force -Path $ownFolder | Out-Null
        Hyper-V\New-VHD -Path $disk -ParentPath $Template -Differencing -Confirm:$false | Out-Null
        # With this path Hyper-V puts the machine's own files below <Folder>\<Name>, beside the disk.
        $start = [System.Math]::Min([System.Math]::Max($MemoryStartMb, $MemoryMinMb), $MemoryMaxMb)
        $machine = Hyper-V\New-VM -Name $Name -Generation 2 -VHDPath $disk -Path $Folder -SwitchName $Switch `
            -MemoryStartupBytes ($start * 1mb) -Confirm:$false
        Complete-Machine $machine
    } catch {
        $problem = $_
        if ($null -ne $machine) { Hyper-V\Remove-VM -VM $machine -Force -Confirm:$false }
        if (-not $hadFolder) {
            Remove-Item -LiteralPath $ownFolder -Recurse -Force -Confirm:$false -ErrorAction SilentlyContinue
        } elseif (Test-Path -LiteralPath $disk) {
            Remove-Item -LiteralPath $disk -Force -Confirm:$false
        }
        throw $problem
    }
    $id = "$($machine.Id)"
    $created = $true
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    name = $Name; id = $id; disk = $disk; created = $created
})
