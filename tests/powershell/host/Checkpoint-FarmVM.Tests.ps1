param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Checkpoint-FarmVM' {
    BeforeEach {
        Reset-Host
        New-TestMachine | Out-Null
    }

    It 'creates a checkpoint and disables checkpoints again' {
        (Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' }).checkpoint | Should -Be 'clean'
        "$((Get-TestMachine).CheckpointType)" | Should -Be 'Disabled'
        @((Get-HyperVWorld).Snapshots).Count | Should -Be 1
    }

    It 'replaces the checkpoint of the same name' {
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        $all = @((Get-HyperVWorld).Snapshots)
        $all.Count | Should -Be 1
        $all[0].CreationTime | Should -Be ([datetime] '2026-01-01T00:02:00')
    }

    It 'keeps the old checkpoint and disables checkpoints again when the new one fails' {
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        Set-HyperVFault 'Checkpoint-VM' (New-PlantedError)
        (Get-Failure { Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } }).Exception.Message |
            Should -Be 'planted'
        @((Get-HyperVWorld).Snapshots).Count | Should -Be 1
        "$((Get-TestMachine).CheckpointType)" | Should -Be 'Disabled'
    }

    It 'refuses a machine that is <_>' -ForEach 'Running', 'Saved', 'Paused', 'SavedCritical', 'FastSaved',
        'Hibernated' {
        (Get-TestMachine).State = $_
        $parameters = @{ Name = 'vm-1'; Checkpoint = 'clean' }
        Get-FailureId { Invoke-Script 'Checkpoint-FarmVM' $parameters } | Should -Be 'NotAllowed'
    }
}
