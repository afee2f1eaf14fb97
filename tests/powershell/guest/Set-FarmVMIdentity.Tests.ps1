param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"

    function Assert-Network($Computer, [string] $Address, [string] $Gateway) {
        $seen = "$(Get-ManualAddress $Computer) by $(Get-DefaultGateway $Computer)"
        Assert-True ($seen -eq "$Address by $Gateway") $seen
    }
}

Describe 'Set-FarmVMIdentity' {
    BeforeEach { $computer = New-TestComputer }
    AfterAll { Remove-TestComputer }

    It 'sets address, name and password of a new clone' {
        Add-ShareAccount $computer
        $answer = Invoke-Identity
        Assert-Succeeded $answer
        Assert-True ($answer.json.restarted -eq $true) 'it was not restarted'
        Assert-True ((Get-ManualAddress $computer) -eq '192.168.77.11/24') "address: $(Get-ManualAddress $computer)"
        Assert-True ($computer.dhcp['7'] -eq 'Disabled') 'DHCP is on'
        Assert-True ((Get-NextComputerName) -eq 'worker-1') "name: $(Get-NextComputerName)"
        Assert-True (@($computer.users | Where-Object { $_.Name -eq 'exchange' })[0].Password -ceq 'new') `
            'the password differs'
        Assert-True ($computer.changes -contains 'Restart-Computer') 'no restart'
    }

    It 'sets only the password in a second run after the restart' {
        Add-ShareAccount $computer
        Assert-Succeeded (Invoke-Identity)
        Set-ComputerName 'worker-1' 'worker-1'
        $computer.changes.Clear()
        $answer = Invoke-Identity
        Assert-Succeeded $answer
        Assert-True ($answer.json.restarted -eq $false) 'it was restarted again'
        Assert-True ("$($computer.changes)" -eq 'Set-LocalUser exchange') "changed: $($computer.changes -join ', ')"
    }

    It 'restarts without another rename in a second run before the restart' {
        Add-ShareAccount $computer
        Assert-Succeeded (Invoke-Identity)
        $computer.changes.Clear()
        $answer = Invoke-Identity
        Assert-Succeeded $answer
        Assert-True ($answer.json.restarted -eq $true) 'it was not restarted'
        Assert-True ($computer.changes -notcontains 'Rename-Computer worker-1') 'renamed again'
    }

    It 'changes nothing and calls no guest with -WhatIf' {
        Add-ShareAccount $computer
        $before = Get-FakeComputerText
        Assert-Succeeded (Invoke-Identity @{ WhatIf = $true })
        Assert-Unchanged $computer $before
        Assert-True ($computer.guestCalls -eq 0) 'the guest was called'
    }

    It 'changes address, gateway and prefix, and removes the gateway' {
        Add-ShareAccount $computer
        Assert-Succeeded (Invoke-Identity)
        Assert-Succeeded (Invoke-Identity @{ Address = '192.168.77.12'; Gateway = '192.168.77.1' })
        Assert-Network $computer '192.168.77.12/24' '192.168.77.1'
        Assert-Succeeded (Invoke-Identity @{ Address = '192.168.77.12'; Gateway = '192.168.77.2'; PrefixLength = 25 })
        Assert-Network $computer '192.168.77.12/25' '192.168.77.2'
        Assert-Succeeded (Invoke-Identity @{ Address = '192.168.77.12' })
        Assert-Network $computer '192.168.77.12/24' ''
    }

    It 'replaces an address from DHCP' {
        Add-ShareAccount $computer
        $address = @{ InterfaceIndex = 7; IPAddress = '172.20.1.2'; PrefixLength = 20; PrefixOrigin = 'Dhcp' }
        $route = @{ InterfaceIndex = 7; DestinationPrefix = '0.0.0.0/0'; NextHop = '172.20.0.1'; Dhcp = $true }
        $null = $computer.addresses.Add($address)
        $null = $computer.routes.Add($route)
        Assert-Succeeded (Invoke-Identity)
        Assert-True ((Get-ManualAddress $computer) -eq '192.168.77.11/24') "address: $(Get-ManualAddress $computer)"
    }

    It 'refuses <adapters> before it changes anything' -ForEach @(
        @{ adapters = 'no adapter'; list = @() }
        @{ adapters = 'two adapters'; list = @(
            @{ Name = 'Ethernet'; ifIndex = 7; Status = 'Up'; Virtual = $false }
            @{ Name = 'Ethernet 2'; ifIndex = 9; Status = 'Up'; Virtual = $false }
        ) }
    ) {
        Add-ShareAccount $computer
        $computer.adapters = [System.Collections.ArrayList]@($list)
        Assert-Refused (Invoke-Identity) 'GuestRefused' "\b$(@($list).Count) network adapter"
        Assert-True (@($computer.users | Where-Object { $_.Name -eq 'exchange' })[0].Password -ceq 'template') `
            'the password was changed before'
    }

    It 'ignores an adapter that is disabled or disconnected' {
        Add-ShareAccount $computer
        foreach ($status in 'Disabled', 'Disconnected') {
            $computer.adapters = [System.Collections.ArrayList]@(
                @{ Name = 'Ethernet'; ifIndex = 7; Status = 'Up'; Virtual = $false }
                @{ Name = 'Bluetooth'; ifIndex = 9; Status = $status; Virtual = $false }
            )
            $answer = Invoke-Identity
            Assert-True $answer.ok "${status}: $(Format-Short $answer.message)"
        }
    }

    It 'ignores a virtual adapter' {
        Add-ShareAccount $computer
        $null = $computer.adapters.Add(@{ Name = 'vEthernet'; ifIndex = 9; Status = 'Up'; Virtual = $true })
        Assert-Succeeded (Invoke-Identity)
    }

    It 'reports that the only adapter is disabled' {
        Add-ShareAccount $computer
        $computer.adapters[0].Status = 'Disabled'
        Assert-Refused (Invoke-Identity) 'GuestRefused' 'disabled'
    }

    It 'refuses a guest without the share account' {
        Assert-Refused (Invoke-Identity) 'GuestRefused' 'User exchange was not found'
    }

    It 'sets no address when the password is against the policy' {
        Add-ShareAccount $computer
        $computer.passwordMinimum = 8
        Assert-Refused (Invoke-Identity) 'GuestRefused' 'length, complexity'
        Assert-True ((Get-ManualAddress $computer) -eq '') 'the address was set'
    }

    It 'accepts special characters in passwords' {
        Add-ShareAccount $computer
        $password = "$ae" + '"''`$x %Y% &|<>^ ' + $euro + ('z' * 100)
        @($computer.users | Where-Object { $_.Name -eq 'farm' })[0].Password = $password
        Assert-Succeeded (Invoke-Identity @{ Secret = $password; SharePassword = $password })
        Assert-True (@($computer.users | Where-Object { $_.Name -eq 'exchange' })[0].Password -ceq $password) `
            'the password differs'
    }

    It 'reports TimedOut for a guest that never answers' {
        Add-ShareAccount $computer
        $computer.guest = 'silent'
        $answer = Invoke-Identity @{ TimeoutSeconds = 1 }
        Assert-Refused $answer 'TimedOut'
        Assert-True ($answer.seconds -lt 35) "took $([int] $answer.seconds) s"
    }

    It 'reports TimedOut for a guest that stops answering' {
        Add-ShareAccount $computer
        $computer.guest = 'silent after 1'
        $answer = Invoke-Identity @{ TimeoutSeconds = 1 }
        Assert-Refused $answer 'TimedOut' '\b1 s\b'
        Assert-True ($answer.seconds -lt 20) "took $([int] $answer.seconds) s"
    }

    It 'waits for a guest that still boots' {
        Add-ShareAccount $computer
        $computer.bootFailures = 2
        Assert-Succeeded (Invoke-Identity @{ TimeoutSeconds = 30 })
    }

    It 'tries a wrong password fewer times than lock the account' {
        Add-ShareAccount $computer
        Assert-Refused (Invoke-Identity @{ Secret = 'wrong'; TimeoutSeconds = 25 }) 'GuestRefused' `
            'credential is invalid'
        Assert-True ($computer.guestCalls -lt 5) `
            "$($computer.guestCalls) tries in 25 s; Windows 11 locks an account after 10"
    }

    It 'refuses machines that are missing, ambiguous, off or unreadable' {
        $computer.machines.Clear()
        Assert-Refused (Invoke-Identity) 'NoSuchMachine' '^vm-1: '
        foreach ($i in 1, 2) {
            $null = $computer.machines.Add(@{ Name = 'vm-1'; Id = [guid]::NewGuid(); State = 'Running' })
        }
        Assert-Refused (Invoke-Identity) 'NotAllowed' '\b2\b'
        $computer.machines.RemoveAt(0)
        $computer.machines[0].State = 'Off'
        Assert-Refused (Invoke-Identity) 'GuestRefused' '\bOff\b'
        $computer.vmProblem = 'denied'
        Assert-Refused (Invoke-Identity) 'NotAllowed' 'required permission'
        $computer.vmProblem = 'other'
        Assert-Refused (Invoke-Identity) '' 'not running'
        Assert-Refused (Invoke-Identity -Without 'Hyper-V') 'NoHyperV'
        Assert-True ($computer.guestCalls -eq 0) 'a guest was called'
    }

    It 'keeps the old address when the new one is not valid' {
        Add-ShareAccount $computer
        Assert-Succeeded (Invoke-Identity)
        $answer = Invoke-Identity @{ Address = '999.1.1.1' }
        Assert-Refused $answer '' '999\.1\.1\.1'
        Assert-True ((Get-ManualAddress $computer) -eq '192.168.77.11/24') `
            "address now: '$(Get-ManualAddress $computer)'"
    }

    It 'keeps the old address and gateway when Windows refuses the new one' {
        Add-ShareAccount $computer
        Assert-Succeeded (Invoke-Identity @{ Gateway = '192.168.77.1' })
        $computer.addressDenied = $true
        Assert-Refused (Invoke-Identity @{ Address = '192.168.77.12' }) 'GuestRefused' 'Inconsistent parameters'
        Assert-Network $computer '192.168.77.11/24' '192.168.77.1'
    }

    It 'passes errors of the guest on without a preface' {
        $answer = Invoke-Identity
        Assert-Refused $answer 'GuestRefused' ': User exchange was not found'
        Add-ShareAccount $computer
        $computer.addressDenied = $true
        Assert-Refused (Invoke-Identity) 'GuestRefused' ': Inconsistent parameters'
    }

    It 'reports that the only adapter is disconnected' {
        Add-ShareAccount $computer
        $computer.adapters[0].Status = 'Disconnected'
        Assert-Refused (Invoke-Identity) 'GuestRefused' 'Ethernet.*Disconnected'
        Assert-True ($computer.changes.Count -eq 0) "changes: $($computer.changes -join ', ')"
    }

    It 'keeps the address when the gateway is not valid' {
        Add-ShareAccount $computer
        Assert-Succeeded (Invoke-Identity)
        Assert-Refused (Invoke-Identity @{ Gateway = '192.168.77.300' }) '' '300'
        Assert-True ((Get-ManualAddress $computer) -eq '192.168.77.11/24') `
            "address now: '$(Get-ManualAddress $computer)'"
    }

    It 'reverts a rename that waits for a restart' {
        Add-ShareAccount $computer
        Set-ComputerName 'worker-1' 'other'
        Assert-Succeeded (Invoke-Identity)
        Assert-True ((Get-NextComputerName) -eq 'worker-1') "name: $(Get-NextComputerName)"
    }

    It 'does not report a restart that was refused' {
        Add-ShareAccount $computer
        $computer.restartFails = $true
        $answer = Invoke-Identity
        Assert-True (-not $answer.ok -or $answer.json.restarted -eq $false) "output: $($answer.output)"
    }

    It 'refuses bad parameters by name' {
        Add-ShareAccount $computer
        Assert-EachRefused 'Set-FarmVMIdentity' (New-IdentityParameters) @(
            @('Name', ''), @('Name', 'vm*'), @('Account', ''), @('Secret', ''), @('Worker', '12345'),
            @('Worker', ('a' * 16)), @('Worker', 'a-'), @('Worker', 'a_b'), @('ShareAccount', 'a\b'),
            @('SharePassword', ''), @('Address', '1.2.3'), @('Address', 'fe80::1'), @('PrefixLength', 31),
            @('PrefixLength', 'x'), @('Gateway', 'none'), @('TimeoutSeconds', 0), @('TimeoutSeconds', 601))
    }

    It 'refuses a newline at the end of a value' {
        Add-ShareAccount $computer
        Assert-EachRefused 'Set-FarmVMIdentity' (New-IdentityParameters) @(
            @('Name', "vm-1`n"), @('Worker', "worker-1`n"), @('Address', "192.168.77.11`n"))
    }
}
