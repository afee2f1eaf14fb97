param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Start-FarmVM' {
    BeforeEach {
        Reset-Host
        New-TestMachine | Out-Null
    }

    It 'starts a machine that is off' {
        (Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' }).state | Should -Be 'Running'
    }

    It 'accepts a machine that runs' {
        Set-MachineState Running
        (Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' }).state | Should -Be 'Running'
    }

    It 'starts a machine that is <_>' -ForEach 'Paused', 'PausedCritical', 'Saved', 'OffCritical', 'SavedCritical',
        'FastSaved', 'Hibernated' {
        (Get-TestMachine).State = $_
        (Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' }).state | Should -Be 'Running'
    }

    It 'leaves a machine alone that is <_>' -ForEach 'RunningCritical', 'StartingCritical', 'ResumingCritical' {
        (Get-TestMachine).State = $_
        (Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' }).state | Should -Be $_
    }

    It 'drops the saved memory of a machine that is <_>' -ForEach 'Saved', 'SavedCritical', 'FastSaved',
        'FastSavedCritical' {
        (Get-TestMachine).State = $_
        Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' } | Out-Null
        @(Get-HyperVCall | Where-Object { $_ -like 'Remove-VMSavedState*' }).Count | Should -Be 1
    }

    It 'keeps the saved memory with -Resume' {
        (Get-TestMachine).State = 'Saved'
        (Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1'; Resume = $true }).state | Should -Be 'Running'
        @(Get-HyperVCall | Where-Object { $_ -like 'Remove-VMSavedState*' }).Count | Should -Be 0
    }

    It 'reports NoSpace when a PausedCritical machine does not resume' {
        (Get-TestMachine).State = 'PausedCritical'
        Set-HyperVFault 'Resume-VM' (New-PlantedError)
        $failure = Get-Failure { Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' } }
        $failure.FullyQualifiedErrorId | Should -Be 'NoSpace'
        $failure.Exception.Message | Should -Match 'planted'
    }

    It 'reports a missing disk' {
        Remove-Item C:\farm-tests\farm\vm-1\vm-1.vhdx
        Get-FailureId { Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' } } | Should -Be 'BadTemplate'
    }

    It 'reports too little memory' {
        (Get-HyperVWorld).MemoryFree = 1gb
        Get-FailureId { Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' } } | Should -Be 'NoSpace'
    }

    It 'reports a disk whose parent is missing' {
        (Get-Item C:\farm-tests\templates\game.vhdx).IsReadOnly = $false
        Remove-Item C:\farm-tests\templates\game.vhdx
        $failure = Get-Failure { Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' } }
        $failure.FullyQualifiedErrorId | Should -BeIn 'BadTemplate', 'NoSuchTemplate'
    }

    It 'reports a machine that does not exist' {
        Get-FailureId { Invoke-Script 'Start-FarmVM' @{ Name = 'vm-2' } } | Should -Be 'NoSuchMachine'
    }

    It 'reports an account without rights to Hyper-V' {
        (Get-HyperVWorld).Denied = $true
        Get-FailureId { Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' } } | Should -Be 'NotAllowed'
    }

    It 'refuses a name that two machines have' {
        Hyper-V\New-VM -Name vm-1 -MemoryStartupBytes 2gb -Path C:\farm-tests\else | Out-Null
        Get-FailureId { Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1' } } | Should -Be 'NotAllowed'
    }

    It 'changes nothing with -WhatIf' {
        $before = Get-HostText
        Invoke-Script 'Start-FarmVM' @{ Name = 'vm-1'; WhatIf = $true } | Out-Null
        Get-HostText | Should -Be $before
    }

    It 'refuses the name <_>' -ForEach '', '*', 'vm?', '-vm', 'a b', 'vm-1;', "vm-1`n", "$([char] 0xfc)mlaut",
        ('a' * 64) {
        Get-FailureId { Invoke-Script 'Start-FarmVM' @{ Name = $_ } } | Should -Match 'ParameterArgumentValidationError'
    }
}
