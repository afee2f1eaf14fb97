<#
.SYNOPSIS
Takes a picture of a machine's screen, without help from the guest.

.DESCRIPTION
For the evidence that is kept before a machine is restored. The picture is Hyper-V's own thumbnail: 16 bits a pixel,
5 red, 6 green, 5 blue, low byte first, row after row from the top. A machine that is off has no screen.

.PARAMETER Name
The machine.

.PARAMETER Width
Pixels across.

.PARAMETER Height
Pixels down.

.EXAMPLE
.\Get-FarmVMScreen.ps1 -Name vm-1 -Width 1024 -Height 768
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name,

    [ValidateRange(16, 1920)]
    [int] $Width = 800,

    [ValidateRange(16, 1200)]
    [int] $Height = 600
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
$namespace = 'root/virtualization/v2'
# Checkpoints have settings of the same class; realized are those of the machine as it is.
$settings = CimCmdlets\Get-CimInstance -Namespace $namespace -ClassName Msvm_VirtualSystemSettingData `
    -Filter "VirtualSystemIdentifier = '$($machine.Id)'" |
    Where-Object { $_.VirtualSystemType -eq 'Microsoft:Hyper-V:System:Realized' } | Select-Object -First 1
$service = CimCmdlets\Get-CimInstance -Namespace $namespace -ClassName Msvm_VirtualSystemManagementService
$picture = CimCmdlets\Invoke-CimMethod -InputObject $service -MethodName GetVirtualSystemThumbnailImage -Arguments @{
    TargetSystem = [ciminstance] $settings; WidthPixels = [uint16] $Width; HeightPixels = [uint16] $Height
}
if ($picture.ReturnValue -ne 0 -or $null -eq $picture.ImageData) {
    Stop-Because 'GuestRefused' "${Name}: no picture, code $($picture.ReturnValue); it is $($machine.State)"
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    name = $machine.Name
    width = $Width
    height = $Height
    rgb565 = [System.Convert]::ToBase64String([byte[]] $picture.ImageData)
})
