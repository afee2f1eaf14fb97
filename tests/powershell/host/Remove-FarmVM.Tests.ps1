param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Remove-FarmVM' {
    BeforeEach {
        Reset-Host
        New-TestMachine | Out-Null
    }

    It 'removes a machine that is <_>' -ForEach 'Off', 'Running', 'Paused', 'Saved', 'PausedCritical', 'SavedCritical',
        'OffCritical', 'FastSaved', 'Hibernated' {
        if ($_ -eq 'Running') { Set-MachineState Running } else { (Get-TestMachine).State = $_ }
        (Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' }).removed | Should -BeTrue
        (Get-HyperVWorld).Machines.Count | Should -Be 0
        Test-Path C:\farm-tests\farm\vm-1 | Should -BeFalse
        Test-Path C:\farm-tests\templates\game.vhdx | Should -BeTrue
    }

    It 'removes a machine with checkpoints' {
        Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
        (Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' }).removed | Should -BeTrue
        Test-Path C:\farm-tests\farm\vm-1 | Should -BeFalse
    }

    It 'accepts a machine that does not exist' {
        (Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-2'; Folder = 'C:\farm-tests\farm' }).removed | Should -BeFalse
    }

    It 'removes the folder of a machine that does not exist' {
        Hyper-V\Remove-VM -VM (Get-TestMachine) -Force
        (Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' }).removed | Should -BeTrue
        Test-Path C:\farm-tests\farm\vm-1 | Should -BeFalse
    }

    It 'refuses a machine whose disk is in another folder' {
        $parameters = @{ Name = 'vm-1'; Folder = 'C:\farm-tests\other' }
        Get-FailureId { Invoke-Script 'Remove-FarmVM' $parameters } | Should -Be 'NotAllowed'
        Test-Path C:\farm-tests\farm\vm-1\vm-1.vhdx | Should -BeTrue
    }

    It 'refuses a folder with a read-only disk' {
        New-Template C:\farm-tests\farm\vm-1\old.vhdx
        (Get-Item C:\farm-tests\farm\vm-1\old.vhdx).IsReadOnly = $true
        $parameters = @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' }
        Get-FailureId { Invoke-Script 'Remove-FarmVM' $parameters } | Should -Be 'NotAllowed'
    }

    It 'refuses a template that is not read-only, in the folder of the machine' {
        # `pipeline vm remove game`, and C:\farm-tests\farm\game\game.vhdx is the template of other machines.
        New-Template C:\farm-tests\farm\game\game.vhdx
        New-Child C:\farm-tests\child.vhdx C:\farm-tests\farm\game\game.vhdx
        New-OtherMachine child C:\farm-tests\child.vhdx
        $parameters = @{ Name = 'game'; Folder = 'C:\farm-tests\farm' }
        Get-FailureId { Invoke-Script 'Remove-FarmVM' $parameters } | Should -Be 'NotAllowed'
        Test-Path C:\farm-tests\farm\game\game.vhdx | Should -BeTrue
    }

    It 'refuses a disk that is the parent of <_> of another machine' -ForEach 'a drive', 'a checkpoint' {
        New-Child C:\farm-tests\child.vhdx C:\farm-tests\farm\vm-1\vm-1.vhdx
        New-OtherMachine child C:\farm-tests\child.vhdx
        if ($_ -eq 'a checkpoint') {
            Hyper-V\Checkpoint-VM -VM (Get-TestMachine child) -SnapshotName before
            New-Template C:\farm-tests\alone.vhdx
            (Get-HyperVWorld).Drives[(Get-TestMachine child).Id][0].Path = 'C:\farm-tests\alone.vhdx'
        }
        $failure = Get-Failure { Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' } }
        $failure.FullyQualifiedErrorId | Should -Be 'NotAllowed'
        $failure.Exception.Message | Should -Match 'child'
        (Get-HyperVWorld).Machines.Count | Should -Be 2
        Test-Path C:\farm-tests\farm\vm-1\vm-1.vhdx | Should -BeTrue
    }

    It 'refuses a machine whose own disk is a template' {
        New-Template C:\farm-tests\farm\game\game.vhdx
        New-OtherMachine game C:\farm-tests\farm\game\game.vhdx C:\farm-tests\farm
        $parameters = @{ Name = 'game'; Folder = 'C:\farm-tests\farm' }
        Get-FailureId { Invoke-Script 'Remove-FarmVM' $parameters } | Should -Be 'NotAllowed'
        @((Get-HyperVWorld).Machines | Where-Object { $_.Name -eq 'game' }).Count | Should -Be 1
    }

    It 'removes clones whose template is missing' {
        New-TestMachine @{ Name = 'vm-2' } | Out-Null
        (Get-Item C:\farm-tests\templates\game.vhdx).IsReadOnly = $false
        Remove-Item C:\farm-tests\templates\game.vhdx
        foreach ($name in 'vm-1', 'vm-2') {
            (Invoke-Script 'Remove-FarmVM' @{ Name = $name; Folder = 'C:\farm-tests\farm' }).removed | Should -BeTrue
        }
        (Get-HyperVWorld).Machines.Count | Should -Be 0
    }

    It 'removes a machine whose disk is damaged' {
        [System.IO.File]::WriteAllText('C:\farm-tests\farm\vm-1\vm-1.vhdx', 'broken')
        (Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' }).removed | Should -BeTrue
    }

    It 'refuses while the disk of another machine cannot be read' {
        [System.IO.File]::WriteAllText('C:\farm-tests\odd.vhdx', 'broken')
        New-OtherMachine odd C:\farm-tests\odd.vhdx
        $parameters = @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' }
        Get-FailureId { Invoke-Script 'Remove-FarmVM' $parameters } | Should -Be 'NotAllowed'
        Remove-Item C:\farm-tests\odd.vhdx
        (Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' }).removed | Should -BeTrue
    }

    It 'accepts a folder with a trailing backslash' {
        (Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm\' }).removed | Should -BeTrue
    }

    It 'accepts a folder on a drive that does not exist' {
        (Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-9'; Folder = 'X:\farm' }).removed | Should -BeFalse
    }

    It 'refuses a folder with a disk of another machine' {
        Hyper-V\New-VHD -Path C:\farm-tests\farm\vm-1\second.vhdx -SizeBytes 1gb | Out-Null
        New-OtherMachine other C:\farm-tests\farm\vm-1\second.vhdx
        $parameters = @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm' }
        Get-FailureId { Invoke-Script 'Remove-FarmVM' $parameters } | Should -Be 'NotAllowed'
        Test-Path C:\farm-tests\farm\vm-1\second.vhdx | Should -BeTrue
    }

    It 'changes nothing with -WhatIf' {
        $before = Get-HostText
        $calls = @(Get-HyperVCall).Count
        Invoke-Script 'Remove-FarmVM' @{ Name = 'vm-1'; Folder = 'C:\farm-tests\farm'; WhatIf = $true } | Out-Null
        Get-HostText | Should -Be $before
        Get-ChangingCall $calls | Should -BeNullOrEmpty
    }
}
