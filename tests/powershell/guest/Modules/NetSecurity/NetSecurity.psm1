# Firewall rules: `firewall` of the fake computer. CDXML on Windows.
function ConvertTo-Rule($Rule) {
    [pscustomobject]@{
        Name = $Rule.Name; DisplayName = $Rule.DisplayName; Enabled = $Rule.Enabled; Direction = $Rule.Direction
        Action = $Rule.Action; Profile = $Rule.Profile; InstanceID = $Rule.Name
    }
}

function ConvertTo-MaskText([string[]] $Address) {
    # The firewall writes a network with its mask.
    foreach ($one in $Address) {
        if ($one -match '^([\d.]+)/(\d+)$') {
            $bits = ('1' * [int] $Matches[2]).PadRight(32, '0')
            $mask = @(0, 8, 16, 24 | ForEach-Object { [System.Convert]::ToInt32($bits.Substring($_, 8), 2) }) -join '.'
            "$($Matches[1])/$mask"
        } else { $one }
    }
}

function ConvertTo-OneOrMany([object[]] $Value) { if ($Value.Count -eq 1) { $Value[0] } else { , $Value } }

function Get-NetFirewallPortFilter {
    [CmdletBinding(PositionalBinding = $false)] param([string[]] $Protocol)
    foreach ($one in (Get-FakeComputer).firewall) {
        if ($null -eq $Protocol -or $one.Protocol -in $Protocol) {
            [pscustomobject]@{
                Protocol = $one.Protocol; LocalPort = (ConvertTo-OneOrMany $one.LocalPort); InstanceID = $one.Name
            }
        }
    }
}

function Get-NetFirewallRule {
    [CmdletBinding(PositionalBinding = $false)]
    param([Parameter(ValueFromPipeline)] [psobject] $AssociatedNetFirewallPortFilter)
    process {
        foreach ($one in (Get-FakeComputer).firewall) {
            $filter = $AssociatedNetFirewallPortFilter
            if ($null -eq $filter -or $filter.InstanceID -eq $one.Name) { ConvertTo-Rule $one }
        }
    }
}

function Get-NetFirewallAddressFilter {
    [CmdletBinding(PositionalBinding = $false)]
    param([Parameter(ValueFromPipeline)] [psobject] $AssociatedNetFirewallRule)
    process {
        foreach ($one in (Get-FakeComputer).firewall) {
            if ($one.Name -eq $AssociatedNetFirewallRule.Name) {
                [pscustomobject]@{
                    RemoteAddress = (ConvertTo-OneOrMany @(ConvertTo-MaskText $one.RemoteAddress)); LocalAddress = 'Any'
                }
            }
        }
    }
}

function Get-NetFirewallApplicationFilter {
    [CmdletBinding(PositionalBinding = $false)]
    param([Parameter(ValueFromPipeline)] [psobject] $AssociatedNetFirewallRule)
    process {
        foreach ($one in (Get-FakeComputer).firewall) {
            if ($one.Name -eq $AssociatedNetFirewallRule.Name) {
                [pscustomobject]@{
                    Program = $(if ($one.ContainsKey('Program')) { $one.Program } else { 'Any' })
                    Package = $(if ($one.ContainsKey('Package')) { $one.Package } else { $null })
                }
            }
        }
    }
}

function Test-Address($Cmdlet, [string[]] $Address) {
    foreach ($one in $Address) {
        $part = $one -split '/'
        $parsed = $null
        if ($one -in 'Any', 'LocalSubnet') { continue }
        if (-not [System.Net.IPAddress]::TryParse($part[0], [ref] $parsed) -or
            ($part.Count -gt 1 -and [int] $part[1] -notin 0..32)) {
            Write-CdxmlError $Cmdlet 'HRESULT 0x80070057' InvalidArgument (
                'The address is invalid. Addresses may be specified as IP addresses, ranges, or subnets. Also, the ' +
                'following address keywords are allowed in certain places: LocalSubnet, DNS, DHCP, WINS, ' +
                'DefaultGateway, Internet, Intranet, IntranetRemoteAccess, PlayToDevice. Keywords can be ' +
                'restricted to IPv4 or IPv6 by appending a 4 or 6.')
            return $false
        }
    }
    $true
}

function Set-NetFirewallRule {
    [CmdletBinding(SupportsShouldProcess, PositionalBinding = $false)]
    param(
        [Parameter(ParameterSetName = 'ByName', Mandatory)] [Alias('ID')] [string[]] $Name,
        [Parameter(ParameterSetName = 'InputObject', Mandatory, ValueFromPipeline)] [psobject[]] $InputObject,
        [string[]] $RemoteAddress, [ValidateSet('True', 'False')] [string] $Enabled
    )
    process {
        $wanted = if ($null -ne $InputObject) { @($InputObject | ForEach-Object { $_.Name }) } else { $Name }
        if ((Get-FakeComputer).firewallDenied) {
            Write-CdxmlError $PSCmdlet 'Windows System Error 5' PermissionDenied 'Access is denied.'
            return
        }
        if ($PSBoundParameters.ContainsKey('RemoteAddress') -and -not (Test-Address $PSCmdlet $RemoteAddress)) {
            return
        }
        foreach ($one in (Get-FakeComputer).firewall) {
            if ($one.Name -notin $wanted) { continue }
            Add-Change "Set-NetFirewallRule $($one.Name)"
            if ($PSBoundParameters.ContainsKey('RemoteAddress')) { $one.RemoteAddress = $RemoteAddress }
            if ($PSBoundParameters.ContainsKey('Enabled')) { $one.Enabled = $Enabled }
        }
    }
}

function New-NetFirewallRule {
    [CmdletBinding(SupportsShouldProcess, PositionalBinding = $false)]
    param(
        [Alias('ID')] [string] $Name, [Parameter(Mandatory)] [string] $DisplayName,
        [ValidateSet('Inbound', 'Outbound')] [string] $Direction,
        [ValidateSet('NotConfigured', 'Allow', 'Block')] [string] $Action, [string] $Protocol, [string[]] $LocalPort,
        [string[]] $RemoteAddress, [string] $Profile = 'Any'
    )
    if ((Get-FakeComputer).firewallDenied) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 5' PermissionDenied 'Access is denied.'
        return
    }
    if (-not (Test-Address $PSCmdlet $RemoteAddress)) { return }
    Add-Change "New-NetFirewallRule $Name"
    $rule = @{
        Name = $Name; DisplayName = $DisplayName; Enabled = 'True'; Direction = $Direction; Action = $Action
        Profile = $Profile; Protocol = $Protocol; LocalPort = $LocalPort; RemoteAddress = $RemoteAddress
    }
    $null = (Get-FakeComputer).firewall.Add($rule)
    ConvertTo-Rule $rule
}

Export-ModuleMember -Function *-NetFirewall*
