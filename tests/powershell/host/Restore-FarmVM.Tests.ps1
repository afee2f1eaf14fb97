param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Restore-FarmVM' {
    BeforeEach {
        Reset-Host
        New-TestMachine | Out-Null
    }

    It 'restores a machine that is <_>' -ForEach 'Off', 'Running', 'Paused', 'Saved', 'PausedCritical', 'SavedCritical',
        'FastSaved', 'Hibernated', 'OffCritical' {
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        if ($_ -eq 'Running') { Set-MachineState Running } else { (Get-TestMachine).State = $_ }
        (Invoke-Script 'Restore-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' }).state | Should -Be 'Off'
    }

    It 'restores the newest checkpoint of the name and drops its saved memory' {
        (Get-TestMachine).CheckpointType = 'Standard'
        Hyper-V\Checkpoint-VM -VM (Get-TestMachine) -SnapshotName clean
        Set-MachineState Running
        Hyper-V\Checkpoint-VM -VM (Get-TestMachine) -SnapshotName clean
        (Invoke-Script 'Restore-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' }).state | Should -Be 'Off'
        @(Get-HyperVCall | Where-Object { $_ -like 'Remove-VMSavedState*' }).Count | Should -Be 1
    }

    It 'reports a checkpoint that does not exist' {
        $parameters = @{ Name = 'vm-1'; Checkpoint = 'clean' }
        Get-FailureId { Invoke-Script 'Restore-FarmVM' $parameters } | Should -Be 'NoCheckpoint'
    }

    It 'allows another checkpoint after a restore' {
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        Invoke-Script 'Restore-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        @((Get-HyperVWorld).Snapshots).Count | Should -Be 1
    }

    It 'keeps the chain of disks at one level' {
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        foreach ($i in 1..5) { Invoke-Script 'Restore-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null }
        @(Get-ChildItem C:\farm-tests\farm\vm-1 -Filter *.avhdx).Count | Should -Be 1
    }

    It 'changes nothing with -WhatIf' {
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        Set-MachineState Running
        $before = Get-HostText
        $calls = @(Get-HyperVCall).Count
        Invoke-Script 'Restore-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean'; WhatIf = $true } | Out-Null
        Get-HostText | Should -Be $before
        Get-ChangingCall $calls | Should -BeNullOrEmpty
    }
}
