# Network adapters of the host: Add-NetAdapterStandIn adds one.
Set-StrictMode -Version 3.0
$script:Adapters = [System.Collections.Generic.List[object]]::new()
function Reset-NetAdapters { $Adapters.Clear() }
function Add-NetAdapterStandIn([string] $Name) {
    $Adapters.Add([pscustomobject] @{ Name = $Name; Status = 'Up'; MacAddress = '00-15-5D-00-00-01'; ifIndex = 7 })
}
function Get-NetAdapter {
    [CmdletBinding()] param([Parameter(Position = 0)] [string[]] $Name, [switch] $Physical)
    $Adapters.ToArray()
}
