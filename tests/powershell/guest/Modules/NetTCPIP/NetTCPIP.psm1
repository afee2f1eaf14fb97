# Addresses and routes: `addresses`, `routes` and `dhcp` of the fake computer. CDXML on Windows.
function Test-Bound([int] $Index) {
    # A disabled adapter is not bound to IP.
    @((Get-FakeComputer).adapters | Where-Object { $_.ifIndex -eq $Index -and $_.Status -ne 'Disabled' }).Count -gt 0
}

function Add-Route($Computer, [int] $Index, [string] $Prefix, [string] $NextHop) {
    $null = $Computer.routes.Add(@{
        InterfaceIndex = $Index; DestinationPrefix = $Prefix; NextHop = $NextHop; Dhcp = $false
    })
}

function Find-Route($Computer, [int] $Index, [string] $Prefix, [string] $NextHop = '*') {
    @($Computer.routes | Where-Object { $_.InterfaceIndex -eq $Index -and $_.DestinationPrefix -eq $Prefix } |
        Where-Object { $_.NextHop -like $NextHop })
}

function Get-NetIPAddress {
    [CmdletBinding(DefaultParameterSetName = 'ByName', PositionalBinding = $false)]
    param([ValidateSet('IPv4', 'IPv6')] [string[]] $AddressFamily)
    foreach ($one in (Get-FakeComputer).addresses) {
        [pscustomobject]@{
            IPAddress = $one.IPAddress; InterfaceIndex = [uint32] $one.InterfaceIndex; InterfaceAlias = 'Ethernet'
            AddressFamily = 'IPv4'
            PrefixLength = [byte] $one.PrefixLength; PrefixOrigin = $one.PrefixOrigin; SuffixOrigin = $one.PrefixOrigin
            AddressState = 'Preferred'
        }
    }
}

function Get-NetRoute {
    [CmdletBinding(DefaultParameterSetName = 'ByName', PositionalBinding = $false)]
    param([ValidateSet('IPv4', 'IPv6')] [string[]] $AddressFamily)
    foreach ($one in (Get-FakeComputer).routes) {
        [pscustomobject]@{
            InterfaceIndex = [uint32] $one.InterfaceIndex; DestinationPrefix = $one.DestinationPrefix
            NextHop = $one.NextHop; RouteMetric = [uint16] 256
        }
    }
}

function Get-NetIPInterface {
    [CmdletBinding(DefaultParameterSetName = 'ByName', PositionalBinding = $false)]
    param([uint32[]] $InterfaceIndex, [ValidateSet('IPv4', 'IPv6')] [string[]] $AddressFamily)
    $index = [int] $InterfaceIndex[0]
    if (-not (Test-Bound $index)) {
        Write-CdxmlError $PSCmdlet 'CmdletizationQuery_NotFound' ObjectNotFound `
            'No matching MSFT_NetIPInterface objects found by CIM query.'
        return
    }
    [pscustomobject]@{
        InterfaceIndex = [uint32] $index; AddressFamily = 'IPv4'; Dhcp = (Get-FakeComputer).dhcp["$index"]
    }
}

function Set-NetIPAddress {
    [CmdletBinding(DefaultParameterSetName = 'Query (cdxml)', SupportsShouldProcess, PositionalBinding = $false)]
    param([Parameter(Position = 0)] [string[]] $IPAddress, [uint32[]] $InterfaceIndex, [byte] $PrefixLength)
    $found = @((Get-FakeComputer).addresses |
        Where-Object { $_.IPAddress -in $IPAddress -and $_.InterfaceIndex -in $InterfaceIndex })
    if ($found.Count -eq 0) {
        Write-CdxmlError $PSCmdlet 'CmdletizationQuery_NotFound' ObjectNotFound `
            'No matching MSFT_NetIPAddress objects found by CIM query.'
        return
    }
    foreach ($one in $found) {
        Add-Change "Set-NetIPAddress $($one.IPAddress)/$PrefixLength"
        $one.PrefixLength = $PrefixLength
    }
}

function New-NetRoute {
    [CmdletBinding(DefaultParameterSetName = 'ByInterfaceAlias', SupportsShouldProcess, PositionalBinding = $false)]
    param(
        [Parameter(Mandatory, Position = 0)] [string] $DestinationPrefix,
        [Parameter(Mandatory, ParameterSetName = 'ByInterfaceIndex')] [uint32] $InterfaceIndex,
        [string] $NextHop = '0.0.0.0'
    )
    $computer = Get-FakeComputer
    $parsed = $null
    if (-not [System.Net.IPAddress]::TryParse($NextHop, [ref] $parsed)) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 87' InvalidArgument "Invalid parameter NextHop $NextHop"
        return
    }
    if (@(Find-Route $computer $InterfaceIndex $DestinationPrefix $NextHop).Count -gt 0) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 87' ResourceExists 'Instance MSFT_NetRoute already exists'
        return
    }
    Add-Change "New-NetRoute $NextHop"
    Add-Route $computer $InterfaceIndex $DestinationPrefix $NextHop
    foreach ($store in 'ActiveStore', 'PersistentStore') {
        [pscustomobject]@{ DestinationPrefix = $DestinationPrefix; NextHop = $NextHop; PolicyStore = $store }
    }
}

function Set-NetIPInterface {
    [CmdletBinding(DefaultParameterSetName = 'ByName', SupportsShouldProcess, PositionalBinding = $false)]
    param(
        [uint32[]] $InterfaceIndex, [ValidateSet('IPv4', 'IPv6')] [string[]] $AddressFamily,
        [ValidateSet('Enabled', 'Disabled')] [string] $Dhcp
    )
    $computer = Get-FakeComputer
    $index = [int] $InterfaceIndex[0]
    if (-not (Test-Bound $index)) {
        Write-CdxmlError $PSCmdlet 'CmdletizationQuery_NotFound' ObjectNotFound (
            'No matching MSFT_NetIPInterface objects found by CIM query for instances of the ' +
            'ROOT/StandardCimv2/MSFT_NetIPInterface class on the CIM server: SELECT * FROM MSFT_NetIPInterface ' +
            "WHERE ((InterfaceIndex = $index)) AND ((AddressFamily = 2)). Verify query parameters and retry.")
        return
    }
    Add-Change "Set-NetIPInterface $index Dhcp $Dhcp"
    $computer.dhcp["$index"] = $Dhcp
    if ($Dhcp -eq 'Disabled') {
        # The address and routes of the DHCP client are removed with it.
        $addresses = @($computer.addresses |
            Where-Object { $_.InterfaceIndex -eq $index -and $_.PrefixOrigin -eq 'Dhcp' })
        foreach ($one in $addresses) { $computer.addresses.Remove($one) }
        $routes = @($computer.routes | Where-Object { $_.InterfaceIndex -eq $index -and $_.Dhcp })
        foreach ($one in $routes) { $computer.routes.Remove($one) }
    }
}

function Remove-NetIPAddress {
    [CmdletBinding(DefaultParameterSetName = 'ByName', SupportsShouldProcess, ConfirmImpact = 'High',
        PositionalBinding = $false)]
    param([Parameter(ValueFromPipeline, ParameterSetName = 'InputObject (cdxml)', Mandatory)] [psobject[]] $InputObject)
    process {
        foreach ($one in $InputObject) {
            $computer = Get-FakeComputer
            $found = @($computer.addresses |
                Where-Object { $_.InterfaceIndex -eq $one.InterfaceIndex -and $_.IPAddress -eq $one.IPAddress })
            if (-not $PSCmdlet.ShouldProcess($one.IPAddress)) { continue }
            Add-Change "Remove-NetIPAddress $($one.IPAddress)"
            foreach ($it in $found) { $computer.addresses.Remove($it) }
        }
    }
}

function Remove-NetRoute {
    [CmdletBinding(DefaultParameterSetName = 'ByName', SupportsShouldProcess, ConfirmImpact = 'High',
        PositionalBinding = $false)]
    param([Parameter(ValueFromPipeline, ParameterSetName = 'InputObject (cdxml)', Mandatory)] [psobject[]] $InputObject)
    process {
        foreach ($one in $InputObject) {
            $computer = Get-FakeComputer
            $found = @(Find-Route $computer $one.InterfaceIndex $one.DestinationPrefix $one.NextHop)
            if ($found.Count -eq 0) {
                Write-CdxmlError $PSCmdlet 'Windows System Error 1168' ObjectNotFound 'Element not found.'
                continue
            }
            if (-not $PSCmdlet.ShouldProcess($one.DestinationPrefix)) { continue }
            Add-Change "Remove-NetRoute $($one.NextHop)"
            foreach ($it in $found) { $computer.routes.Remove($it) }
        }
    }
}

function New-NetIPAddress {
    [CmdletBinding(DefaultParameterSetName = 'ByInterfaceAlias', SupportsShouldProcess, PositionalBinding = $false)]
    param(
        [Parameter(Mandatory, Position = 0)] [string] $IPAddress,
        [Parameter(Mandatory, ParameterSetName = 'ByInterfaceIndex')] [uint32] $InterfaceIndex,
        [Parameter(Mandatory, ParameterSetName = 'ByInterfaceAlias')] [string] $InterfaceAlias,
        [byte] $PrefixLength, [string] $DefaultGateway
    )
    $computer = Get-FakeComputer
    $parsed = $null
    if (-not [System.Net.IPAddress]::TryParse($IPAddress, [ref] $parsed)) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 87' InvalidArgument "Invalid parameter IPAddress $IPAddress"
        return
    }
    if ($DefaultGateway -ne '' -and -not [System.Net.IPAddress]::TryParse($DefaultGateway, [ref] $parsed)) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 87' InvalidArgument `
            "Invalid parameter DefaultGateway $DefaultGateway"
        return
    }
    if ($computer.addressDenied) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 87' InvalidArgument `
            'Inconsistent parameters PolicyStore PersistentStore and Dhcp Enabled'
        return
    }
    if (@($computer.addresses | Where-Object { $_.IPAddress -eq $IPAddress }).Count -gt 0) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 5010' InvalidArgument `
            'Instance MSFT_NetIPAddress already exists'
        return
    }
    if ($DefaultGateway -ne '' -and @(Find-Route $computer $InterfaceIndex '0.0.0.0/0').Count -gt 0) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 87' InvalidArgument 'Instance DefaultGateway already exists'
        return
    }
    Add-Change "New-NetIPAddress $IPAddress/$PrefixLength $DefaultGateway"
    $null = $computer.addresses.Add(@{
        InterfaceIndex = [int] $InterfaceIndex; IPAddress = $IPAddress; PrefixLength = $PrefixLength
        PrefixOrigin = 'Manual'
    })
    if ($DefaultGateway -ne '') {
        Add-Route $computer $InterfaceIndex '0.0.0.0/0' $DefaultGateway
    }
    # Two instances: of the active and of the persistent store.
    foreach ($store in 'ActiveStore', 'PersistentStore') {
        [pscustomobject]@{ IPAddress = $IPAddress; InterfaceIndex = $InterfaceIndex; PolicyStore = $store }
    }
}

Export-ModuleMember -Function *-Net*
