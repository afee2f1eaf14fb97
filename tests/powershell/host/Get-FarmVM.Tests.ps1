param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Get-FarmVM' {
    BeforeEach { Reset-Host }

    It 'writes an array of <_> machines' -ForEach 0, 1, 2 {
        $count = $_
        if ($count -ge 1) { New-TestMachine | Out-Null }
        if ($count -ge 2) { New-TestMachine @{ Name = 'vm-2' } | Out-Null }
        $text = & ([ScriptBlock]::Create((Get-ScriptText 'Get-FarmVM'))) -Name 'vm-1', 'vm-2'
        $text | Should -Match '^\[.*\]$'
        # Windows PowerShell writes an array as one object; the parentheses make its elements the output.
        @((ConvertFrom-Json -InputObject $text)).Count | Should -Be $count
    }

    It 'writes lists of no, one and two elements as arrays' {
        New-TestMachine | Out-Null
        Set-MachineState Running
        foreach ($addresses in @(), @('192.168.77.11'), @('192.168.77.11', 'fe80::1')) {
            (Get-HyperVWorld).Adapters[(Get-TestMachine).Id][0].IPAddresses = $addresses
            $text = & ([ScriptBlock]::Create((Get-ScriptText 'Get-FarmVM'))) -Name 'vm-1'
            $text | Should -Match '"addresses":\['
            $text | Should -Match '"checkpoints":\[\]'
        }
    }

    It 'writes a machine without a heartbeat' {
        New-TestMachine | Out-Null
        $answer = @(Invoke-Script 'Get-FarmVM' @{ Name = @('vm-1') })
        $answer[0].heartbeat | Should -Be ''
        $answer[0].state | Should -Be 'Off'
    }

    It 'reports an account without rights to Hyper-V' {
        (Get-HyperVWorld).Denied = $true
        Get-FailureId { Invoke-Script 'Get-FarmVM' @{ Name = 'vm-1' } } | Should -Be 'NotAllowed'
    }

    It 'passes other errors on' {
        New-TestMachine | Out-Null
        Set-HyperVFault 'Get-VM' (New-PlantedError 'The RPC server is unavailable' 'ResourceUnavailable')
        (Get-Failure { Invoke-Script 'Get-FarmVM' @{ Name = 'vm-1' } }).Exception.Message | Should -Match 'RPC'
    }

    It 'leaves a machine out that is removed meanwhile' {
        New-TestMachine | Out-Null
        New-TestMachine @{ Name = 'vm-2' } | Out-Null
        Set-HyperVFault 'Get-VMSnapshot' { (Get-HyperVWorld).Machines.Remove((Get-TestMachine)) | Out-Null }
        $answer = @(Invoke-Script 'Get-FarmVM' @{ Name = 'vm-1', 'vm-2' })
        $answer.Count | Should -Be 1
        $answer[0].name | Should -Be 'vm-2'
    }

    It 'passes an error on while the machine exists' {
        New-TestMachine | Out-Null
        Set-HyperVFault 'Get-VMSnapshot' (New-PlantedError 'planted' 'ObjectNotFound')
        (Get-Failure { Invoke-Script 'Get-FarmVM' @{ Name = 'vm-1' } }).Exception.Message | Should -Be 'planted'
    }
}
