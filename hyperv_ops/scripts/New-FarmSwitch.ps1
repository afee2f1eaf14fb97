<#
.SYNOPSIS
Makes the internal switch of the farm and gives the host its address on it.

.DESCRIPTION
An internal switch joins the machines and this host, and nothing else: no genome reaches the network of the house.
There is no DHCP on it, so the host's address is static. What is there already stays.

.PARAMETER Name
The switch.

.PARAMETER Address
The host's own address on it.

.PARAMETER PrefixLength
How many bits of the address are the network's.

.EXAMPLE
.\New-FarmSwitch.ps1 -Name farm -Address 192.168.77.1 -PrefixLength 24
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9 _-]{0,62}\z')]
    [string] $Name,

    [Parameter(Mandatory)]
    [ValidatePattern('^\d{1,3}(\.\d{1,3}){3}\z')]
    [string] $Address,

    [ValidateRange(8, 30)]
    [int] $PrefixLength = 24
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
# Commands that are functions of modules do not see this script's $ErrorActionPreference; this reaches them.
$PSDefaultParameterValues = @{ '*:ErrorAction' = 'Stop' }

function Stop-Because([string] $Reason, [string] $Message) {
    throw [System.Management.Automation.ErrorRecord]::new(
        [System.InvalidOperationException]::new($Message), $Reason, 'NotSpecified', $null)
}

try {
    $switches = @(Hyper-V\Get-VMSwitch | Where-Object { $_.Name -eq $Name })
} catch [System.Management.Automation.CommandNotFoundException] {
    Stop-Because 'NoHyperV' "${env:COMPUTERNAME}: no Hyper-V module; turn on the Windows feature Hyper-V"
}
if ($switches.Count -gt 0 -and "$($switches[0].SwitchType)" -ne 'Internal') {
    Stop-Because 'Exists' "${Name}: is an $($switches[0].SwitchType) switch already; choose another name"
}

$adapter = "vEthernet ($Name)"
$created = $false
if ($switches.Count -eq 0 -and $PSCmdlet.ShouldProcess($Name, 'make an internal switch')) {
    Hyper-V\New-VMSwitch -Name $Name -SwitchType Internal -Confirm:$false | Out-Null
    $created = $true
}

$addresses = @(NetTCPIP\Get-NetIPAddress -AddressFamily IPv4 | Where-Object { $_.IPAddress -eq $Address })
if ($addresses.Count -gt 0 -and $addresses[0].InterfaceAlias -ne $adapter) {
    Stop-Because 'Exists' "${Address}: belongs to $($addresses[0].InterfaceAlias) already; choose another network"
}
if ($addresses.Count -eq 0 -and $PSCmdlet.ShouldProcess($adapter, "set the address $Address/$PrefixLength")) {
    # The host's side of a new switch appears a moment after it.
    $deadline = [datetime]::UtcNow.AddSeconds(15)
    while (@(NetAdapter\Get-NetAdapter | Where-Object { $_.Name -eq $adapter }).Count -eq 0) {
        if ([datetime]::UtcNow -ge $deadline) {
            Stop-Because 'NoSwitch' "${adapter}: no such network adapter; give the switch its own name back"
        }
        Start-Sleep -Milliseconds 500
    }
    NetTCPIP\New-NetIPAddress -InterfaceAlias $adapter -IPAddress $Address -PrefixLength $PrefixLength -Confirm:$false |
        Out-Null
    $created = $true
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    name = $Name; address = $Address; created = $created
})
