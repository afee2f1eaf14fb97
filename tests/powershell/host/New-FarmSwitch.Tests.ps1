param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'New-FarmSwitch' {
    BeforeEach { Reset-Host }

    It 'creates a switch and sets the address of the host' {
        Set-HyperVFault 'New-VMSwitch' { Add-NetAdapterStandIn 'vEthernet (new)' }
        (Invoke-Script 'New-FarmSwitch' @{ Name = 'new'; Address = '192.168.77.1' }).created | Should -BeTrue
        (Invoke-Script 'New-FarmSwitch' @{ Name = 'new'; Address = '192.168.77.1' }).created | Should -BeFalse
    }

    It 'refuses a switch of another type' {
        $switch = [Microsoft.HyperV.PowerShell.VMSwitch] @{ Name = 'ext'; SwitchType = 'External' }
        (Get-HyperVWorld).Switches.Add($switch)
        $parameters = @{ Name = 'ext'; Address = '192.168.77.1' }
        Get-FailureId { Invoke-Script 'New-FarmSwitch' $parameters } | Should -Be 'Exists'
    }

    It 'refuses an address of another adapter' {
        NetTCPIP\New-NetIPAddress -InterfaceAlias Ethernet -IPAddress 192.168.77.1 -PrefixLength 24 | Out-Null
        $parameters = @{ Name = 'farm'; Address = '192.168.77.1' }
        Get-FailureId { Invoke-Script 'New-FarmSwitch' $parameters } | Should -Be 'Exists'
    }

    It 'creates no switch when it refuses the address' {
        NetTCPIP\New-NetIPAddress -InterfaceAlias Ethernet -IPAddress 192.168.77.1 -PrefixLength 24 | Out-Null
        Get-Failure { Invoke-Script 'New-FarmSwitch' @{ Name = 'new'; Address = '192.168.77.1' } } | Out-Null
        @((Get-HyperVWorld).Switches | Where-Object { $_.Name -eq 'new' }).Count | Should -Be 0
    }

    It 'refuses the address <_>' -ForEach '999.1.1.1', '192.168.77.0', '192.168.77.255', '0.0.0.0', '127.0.0.1',
        '224.0.0.1' {
        $address = $_
        Set-HyperVFault 'New-VMSwitch' { Add-NetAdapterStandIn 'vEthernet (new)' }
        $failure = Get-Failure { Invoke-Script 'New-FarmSwitch' @{ Name = 'new'; Address = $address } }
        $failure.FullyQualifiedErrorId | Should -Match 'BadInput|ParameterArgumentValidationError'
    }

    It 'accepts the address <_>' -ForEach '10.0.0.1', '192.168.77.254', '172.16.0.1', '223.255.255.254' {
        $address = $_
        Set-HyperVFault 'New-VMSwitch' { Add-NetAdapterStandIn 'vEthernet (new)' }
        (Invoke-Script 'New-FarmSwitch' @{ Name = 'new'; Address = $address }).created | Should -BeTrue
    }

    It 'decides by the prefix whether 10.1.2.<last>/<prefix> is a host' -ForEach @(
        @{ last = 255; prefix = 16; fits = $true }
        @{ last = 0; prefix = 16; fits = $true }
        @{ last = 3; prefix = 30; fits = $false }
        @{ last = 2; prefix = 30; fits = $true }
        @{ last = 4; prefix = 30; fits = $false }
    ) {
        Set-HyperVFault 'New-VMSwitch' { Add-NetAdapterStandIn 'vEthernet (new)' }
        $parameters = @{ Name = 'new'; Address = "10.1.2.$last"; PrefixLength = $prefix }
        if ($fits) {
            (Invoke-Script 'New-FarmSwitch' $parameters).created | Should -BeTrue
        } else {
            Get-FailureId { Invoke-Script 'New-FarmSwitch' $parameters } | Should -Be 'BadInput'
        }
    }

    It 'reports an account without rights to Hyper-V' {
        (Get-HyperVWorld).Denied = $true
        $parameters = @{ Name = 'new'; Address = '192.168.77.1' }
        Get-FailureId { Invoke-Script 'New-FarmSwitch' $parameters } | Should -Be 'NotAllowed'
    }

    It 'adds the address to an adapter that has another one' {
        Add-NetAdapterStandIn 'vEthernet (farm)'
        NetTCPIP\New-NetIPAddress -InterfaceAlias 'vEthernet (farm)' -IPAddress 192.168.50.1 -PrefixLength 24 | Out-Null
        $answer = Invoke-Script 'New-FarmSwitch' @{ Name = 'farm'; Address = '192.168.77.1' }
        $answer.created | Should -BeTrue
    }

    It 'refuses an address that exists with another prefix' {
        Add-NetAdapterStandIn 'vEthernet (farm)'
        NetTCPIP\New-NetIPAddress -InterfaceAlias 'vEthernet (farm)' -IPAddress 192.168.77.1 -PrefixLength 16 | Out-Null
        $parameters = @{ Name = 'farm'; Address = '192.168.77.1'; PrefixLength = 24 }
        Get-FailureId { Invoke-Script 'New-FarmSwitch' $parameters } | Should -Be 'Exists'
    }

    It 'changes nothing with -WhatIf' {
        $before = Get-HostText
        Invoke-Script 'New-FarmSwitch' @{ Name = 'new'; Address = '192.168.77.1'; WhatIf = $true } | Out-Null
        Get-HostText | Should -Be $before
    }
}
