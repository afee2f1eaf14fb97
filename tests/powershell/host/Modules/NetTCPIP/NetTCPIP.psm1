# Addresses of the host. New-NetIPAddress accepts every address that parses, as on Windows.
Set-StrictMode -Version 3.0
$script:Addresses = [System.Collections.Generic.List[object]]::new()
function Reset-NetIP { $Addresses.Clear() }
function Get-NetIPAddress {
    [CmdletBinding()] param([string[]] $IPAddress, [string[]] $InterfaceAlias, [string[]] $AddressFamily)
    $Addresses.ToArray()
}
function New-NetIPAddress {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory)] [string] $IPAddress, [Parameter(Mandatory)] [string] $InterfaceAlias,
        [byte] $PrefixLength, [string] $DefaultGateway
    )
    $parsed = $null
    if (-not [ipaddress]::TryParse($IPAddress, [ref] $parsed)) {
        $exception = [System.Exception]::new("Invalid parameter AddressFamily/IPAddress $IPAddress")
        $PSCmdlet.ThrowTerminatingError([System.Management.Automation.ErrorRecord]::new(
            $exception, 'Windows System Error 87', 'InvalidArgument', $null))
    }
    if ($PSCmdlet.ShouldProcess($InterfaceAlias, 'New-NetIPAddress')) {
        $Addresses.Add([pscustomobject] @{
            IPAddress = $IPAddress; InterfaceAlias = $InterfaceAlias; PrefixLength = $PrefixLength
            AddressFamily = 'IPv4'
        })
        $Addresses[$Addresses.Count - 1]
    }
}
