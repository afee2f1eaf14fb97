param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Send-FarmVMFile' {
    BeforeEach {
        Reset-Host
        New-TestMachine | Out-Null
        Set-MachineState Running
    }

    It 'sends <_> bytes' -ForEach 0, 1, 3, 70000 {
        $bytes = [byte[]]::new($_)
        [System.Random]::new(1).NextBytes($bytes)
        $answer = Invoke-Script 'Send-FarmVMFile' @{
            Name = 'vm-1'; Destination = 'C:\farm\a b\agent.toml'; Content = [Convert]::ToBase64String($bytes)
        }
        $answer.bytes | Should -Be $_
        [Convert]::ToBase64String([System.IO.File]::ReadAllBytes('C:\farm-tests\guest\vm-1\farm\a b\agent.toml')) |
            Should -Be ([Convert]::ToBase64String($bytes))
    }

    It 'enables the guest service interface on a German Windows' {
        Reset-HyperV 1
        New-Template
        Remove-Item C:\farm-tests\farm -Recurse -Force
        New-TestMachine | Out-Null
        Set-MachineState Running
        $service = (Get-HyperVWorld).Services[(Get-TestMachine).Id] | Where-Object { $_.Id -like '*6C09BB55*' }
        $service.Enabled = $false
        $service.PrimaryOperationalStatus = $null
        Invoke-Script 'Send-FarmVMFile' @{ Name = 'vm-1'; Destination = 'C:\x.txt'; Content = 'AAAA' } | Out-Null
        $service.Enabled | Should -BeTrue
    }

    It 'refuses a machine that is off' {
        (Get-TestMachine).State = 'Off'
        $parameters = @{ Name = 'vm-1'; Destination = 'C:\x.txt'; Content = 'AAAA' }
        Get-FailureId { Invoke-Script 'Send-FarmVMFile' $parameters } | Should -Be 'GuestRefused'
    }

    It 'reports a guest service interface that does not answer' {
        $service = (Get-HyperVWorld).Services[(Get-TestMachine).Id] | Where-Object { $_.Id -like '*6C09BB55*' }
        $service.PrimaryOperationalStatus = 'NoContact'
        $parameters = @{ Name = 'vm-1'; Destination = 'C:\x.txt'; Content = 'AAAA' }
        Get-FailureId { Invoke-Script 'Send-FarmVMFile' $parameters } | Should -Be 'NoGuestServices'
    }

    It 'leaves no temporary file when Copy-VMFile fails: <_>' -ForEach $true, $false {
        # A folder of its own, because other programs write in the real one.
        $temp = New-Item -ItemType Directory C:\farm-tests\temp
        $before = $env:TMP, $env:TEMP
        $env:TMP = $env:TEMP = $temp.FullName
        if ($_) { Set-HyperVFault 'Copy-VMFile' (New-PlantedError) }
        try {
            Invoke-Script 'Send-FarmVMFile' @{ Name = 'vm-1'; Destination = 'C:\x.txt'; Content = 'AAAA' } | Out-Null
        } catch {
            $_.FullyQualifiedErrorId | Should -Be 'GuestRefused'
        } finally {
            $env:TMP, $env:TEMP = $before
        }
        @(Get-ChildItem $temp -Force) | Should -BeNullOrEmpty
    }

    It 'refuses content that is not Base64: <_>' -ForEach 'A', 'AAA', 'AA=' {
        $failure = Get-Failure {
            Invoke-Script 'Send-FarmVMFile' @{ Name = 'vm-1'; Destination = 'C:\x.txt'; Content = $_ }
        }
        $failure.FullyQualifiedErrorId | Should -Match 'BadInput|ParameterArgumentValidationError'
    }

    It 'changes nothing with -WhatIf' {
        $service = (Get-HyperVWorld).Services[(Get-TestMachine).Id] | Where-Object { $_.Id -like '*6C09BB55*' }
        $service.Enabled = $false
        $calls = @(Get-HyperVCall).Count
        Invoke-Script 'Send-FarmVMFile' @{
            Name = 'vm-1'; Destination = 'C:\x.txt'; Content = 'AAAA'; WhatIf = $true
        } | Out-Null
        Get-ChangingCall $calls | Should -BeNullOrEmpty
    }
}
