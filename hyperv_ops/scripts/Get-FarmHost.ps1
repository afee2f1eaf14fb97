<#
.SYNOPSIS
Tells whether this computer can be a host of virtual machines, and what it has left.

.DESCRIPTION
Answers with one JSON object. What is missing is reported as false, empty or 0, never as an error: the caller says in
one line what to do about it.

.PARAMETER Switch
The virtual switch to look for.

.PARAMETER Folder
The folder of the machines. Its drive is the one whose free space is told; without it, the drive of Windows.

.PARAMETER Template
The template disk to look for.

.EXAMPLE
.\Get-FarmHost.ps1 -Switch farm -Folder D:\farm -Template D:\templates\game.vhdx
#>
[CmdletBinding()]
param(
    [string] $Switch = '',
    [string] $Folder = '',
    [string] $Template = ''
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Test-File([string] $Path, [string] $Type) {
    try { return $Path -ne '' -and (Test-Path -LiteralPath $Path -PathType $Type) } catch { return $false }
}

# The management tools alone are no Hyper-V: its service has to run.
$service = @(Get-Service -Name vmms -ErrorAction SilentlyContinue)
$hyperV = @(Get-Module -ListAvailable -Name Hyper-V).Count -gt 0 -and
    $service.Count -gt 0 -and "$($service[0].Status)" -eq 'Running'

$user = [System.Security.Principal.WindowsPrincipal]::new([System.Security.Principal.WindowsIdentity]::GetCurrent())
$administrator = $user.IsInRole([System.Security.Principal.WindowsBuiltInRole]::Administrator) -or
    $user.IsInRole([System.Security.Principal.SecurityIdentifier]::new('S-1-5-32-578'))  # Hyper-V Administrators

$switchExists = $false
if ($hyperV -and $Switch -ne '') {
    try {
        $switchExists = @(Hyper-V\Get-VMSwitch | Where-Object { $_.Name -eq $Switch }).Count -gt 0
    } catch {
        Write-Verbose -Message "Switches cannot be listed: $($_.Exception.Message)"
    }
}

$templateReadOnly = $false
if (Test-File $Template 'Leaf') {
    try {
        $templateReadOnly = (Get-Item -LiteralPath $Template).IsReadOnly
    } catch {
        Write-Verbose -Message "${Template}: $($_.Exception.Message)"
    }
}

$freeDiskGb = 0.0
try {
    $drive = if ($Folder -ne '') { [System.IO.Path]::GetPathRoot($Folder) } else { "$env:SystemDrive\" }
    $freeDiskGb = [System.Math]::Round([System.IO.DriveInfo]::new($drive).AvailableFreeSpace / 1gb, 1)
} catch {
    Write-Verbose -Message "Free space of '$Folder' is unknown: $($_.Exception.Message)"
}

$freeMemoryMb = 0
$totalMemoryMb = 0
$logicalProcessors = [System.Environment]::ProcessorCount
try {
    $system = CimCmdlets\Get-CimInstance -ClassName Win32_OperatingSystem
    $freeMemoryMb = [int64] ($system.FreePhysicalMemory / 1kb)  # told in KB
    $totalMemoryMb = [int64] ($system.TotalVisibleMemorySize / 1kb)
    $logicalProcessors = [int] (CimCmdlets\Get-CimInstance -ClassName Win32_ComputerSystem).NumberOfLogicalProcessors
} catch {
    Write-Verbose -Message "Memory is unknown: $($_.Exception.Message)"
}

ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    computer = $env:COMPUTERNAME
    hyper_v = $hyperV
    administrator = $administrator
    switch_exists = $switchExists
    folder_exists = Test-File $Folder 'Container'
    template_exists = Test-File $Template 'Leaf'
    template_read_only = $templateReadOnly
    free_disk_gb = $freeDiskGb
    free_memory_mb = $freeMemoryMb
    total_memory_mb = $totalMemoryMb
    logical_processors = $logicalProcessors
    powershell = "$($PSVersionTable.PSVersion)"
})
