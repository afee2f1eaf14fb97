<#
.SYNOPSIS
Writes a file into a running machine, without a network.

.DESCRIPTION
The content goes through a temporary file of this host and the Guest Service Interface, which is enabled if it is not.
A file of that name in the guest is replaced; folders that are missing are made.

.PARAMETER Name
The machine.

.PARAMETER Destination
The file's full path in the guest.

.PARAMETER Content
The file's bytes, in base64.

.EXAMPLE
.\Send-FarmVMFile.ps1 -Name vm-1 -Destination C:\farm\agent.toml -Content ([Convert]::ToBase64String($bytes))
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Name,

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\x00-\x1f]+\z')]
    [string] $Destination,

    [Parameter(Mandatory)]
    [AllowEmptyString()]
    [ValidatePattern('^[A-Za-z0-9+/]*={0,2}$')]
    [string] $Content
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

function Get-GuestService($Machine) {
    # Its name is translated; its id is the same in every language.
    Hyper-V\Get-VMIntegrationService -VM $Machine |
        Where-Object { "$($_.Id)" -like '*6C09BB55-D683-4DA0-8931-C9BF705F6480' }
}

$bytes = [System.Convert]::FromBase64String($Content)
$machine = Get-Machine $Name
if ("$($machine.State)" -ne 'Running') {
    Stop-Because 'GuestRefused' "${Name}: is $($machine.State), and files reach a running machine only; start it first"
}
if ($PSCmdlet.ShouldProcess($Name, "write $($bytes.Length) bytes to $Destination")) {
    if (-not (Get-GuestService $machine).Enabled) {
        Get-GuestService $machine | Hyper-V\Enable-VMIntegrationService -Confirm:$false
    }
    # It answers a little after it was enabled, or after the guest has booted.
    $deadline = [datetime]::UtcNow.AddSeconds(30)
    while ("$((Get-GuestService $machine).PrimaryOperationalStatus)" -ne 'Ok') {
        if ([datetime]::UtcNow -ge $deadline) {
            Stop-Because 'NoGuestServices' "${Name}: no guest services; start vmicguestinterface in the guest"
        }
        Start-Sleep -Seconds 1
    }
    $file = [System.IO.Path]::GetTempFileName()
    try {
        [System.IO.File]::WriteAllBytes($file, $bytes)
        Hyper-V\Copy-VMFile -VM $machine -SourcePath $file -DestinationPath $Destination -FileSource Host `
            -CreateFullPath -Force -Confirm:$false
    } catch {
        Stop-Because 'GuestRefused' "${Name}: $Destination cannot be written: $($_.Exception.Message)"
    } finally {
        Remove-Item -LiteralPath $file -Force -Confirm:$false
    }
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{ name = $machine.Name; bytes = $bytes.Length })
