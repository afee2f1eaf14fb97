param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"

    function New-OddMachine([int16] $Generation) {
        Hyper-V\New-VM -Name odd -Generation $Generation -MemoryStartupBytes 1gb -Path C:\farm-tests\odd
    }

    function New-DiskOfMachine {
        # The disk of vm-1, without the machine.
        New-Item -ItemType Directory C:\farm-tests\farm\vm-1 | Out-Null
        New-Child C:\farm-tests\farm\vm-1\vm-1.vhdx C:\farm-tests\templates\game.vhdx
    }
}

Describe 'New-FarmVM' {
    BeforeEach { Reset-Host }

    Context 'without -Like' {
        It 'creates a machine on a differencing disk' {
            $answer = New-TestMachine
            $answer.created | Should -BeTrue
            $answer.disk | Should -Be 'C:\farm-tests\farm\vm-1\vm-1.vhdx'
            $machine = Get-TestMachine
            "$($machine.CheckpointType)" | Should -Be 'Disabled'
            $machine.AutomaticCheckpointsEnabled | Should -BeFalse
            $machine.DynamicMemoryEnabled | Should -BeTrue
            (Get-Item 'C:\farm-tests\templates\game.vhdx').IsReadOnly | Should -BeTrue
            @((Get-HyperVWorld).Services[$machine.Id] | Where-Object { -not $_.Enabled }).Count | Should -Be 0
        }

        It 'changes nothing when the machine exists' {
            New-TestMachine | Out-Null
            $before = Get-HostText
            $answer = New-TestMachine
            $answer.created | Should -BeFalse
            $answer.disk | Should -Be 'C:\farm-tests\farm\vm-1\vm-1.vhdx'
            Get-HostText | Should -Be $before
        }

        It 'accepts a machine that has a checkpoint' {
            New-TestMachine | Out-Null
            Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
            (New-TestMachine).created | Should -BeFalse
        }

        It 'keeps checkpoints disabled after a restore' {
            New-TestMachine @{ Notes = 'mine' } | Out-Null
            Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
            Invoke-Script 'Restore-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
            "$((Get-TestMachine).CheckpointType)" | Should -Be 'Disabled'
        }

        It 'keeps changed settings of a machine that was restored' {
            New-TestMachine | Out-Null
            (Get-TestMachine).ProcessorCount = 6
            (Get-TestMachine).Notes = 'the one with the old driver'
            Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
            Invoke-Script 'Restore-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
            New-TestMachine | Out-Null
            (Get-TestMachine).ProcessorCount | Should -Be 6
            (Get-TestMachine).Notes | Should -Be 'the one with the old driver'
        }

        It 'changes nothing with -WhatIf' {
            $before = Get-HostText
            $calls = @(Get-HyperVCall).Count
            (New-TestMachine @{ WhatIf = $true }).created | Should -BeFalse
            Get-HostText | Should -Be $before
            Get-ChangingCall $calls | Should -BeNullOrEmpty
        }

        It 'finishes a machine that New-VM created and Set-VM did not configure' {
            New-DiskOfMachine
            Hyper-V\New-VM -Name vm-1 -Generation 2 -VHDPath C:\farm-tests\farm\vm-1\vm-1.vhdx `
                -Path C:\farm-tests\farm -SwitchName farm -MemoryStartupBytes 2gb | Out-Null
            (New-TestMachine).created | Should -BeFalse
            "$((Get-TestMachine).CheckpointType)" | Should -Be 'Disabled'
        }

        It 'reports a disk without its machine' {
            # As after a power failure of the host between New-VHD and New-VM.
            New-DiskOfMachine
            Get-FailureId { New-TestMachine } | Should -Be 'Exists'
        }

        It 'removes everything it created when <_> fails' -ForEach 'New-VHD', 'New-VM', 'Set-VM',
            'Enable-VMIntegrationService' {
            Set-HyperVFault $_ (New-PlantedError)
            (Get-Failure { New-TestMachine }).Exception.Message | Should -Be 'planted'
            (Get-HyperVWorld).Machines.Count | Should -Be 0
            Test-Path C:\farm-tests\farm\vm-1 | Should -BeFalse
        }

        It 'reports the first error when the removal fails too' {
            Set-HyperVFault 'Set-VM' (New-PlantedError)
            Set-HyperVFault 'Remove-VM' (New-PlantedError 'second')
            (Get-Failure { New-TestMachine }).Exception.Message | Should -Be 'planted'
        }

        It 'refuses <case>' -ForEach @(
            @{
                case = 'a template that does not exist'; more = @{ Template = 'C:\farm-tests\templates\other.vhdx' }
                id = 'NoSuchTemplate'
            }
            @{ case = 'a switch that does not exist'; more = @{ Switch = 'other' }; id = 'NoSwitch' }
            @{ case = 'a full drive'; more = @{ SpareGb = 4096 }; id = 'NoSpace' }
        ) {
            Get-FailureId { New-TestMachine $more } | Should -Be $id
        }

        It 'refuses a template that is not a disk' {
            [System.IO.File]::WriteAllText('C:\farm-tests\templates\game.vhdx', 'a text')
            Get-FailureId { New-TestMachine } | Should -Be 'BadTemplate'
        }

        It 'refuses a template whose machine is running' {
            New-GoldenMachine
            Set-MachineState Running golden
            Get-FailureId { New-TestMachine } | Should -Be 'BadTemplate'
        }

        It 'refuses a template whose machine has a checkpoint and is <_>' -ForEach 'Off', 'Running' {
            # Windows 10 and 11 create one at every start: the machine then runs on an .avhdx above the template.
            New-GoldenMachine
            Hyper-V\Checkpoint-VM -VM (Get-TestMachine golden) -SnapshotName before | Out-Null
            if ($_ -eq 'Running') { Set-MachineState Running golden }
            Get-FailureId { New-TestMachine } | Should -Be 'BadTemplate'
        }

        It 'accepts the template after the checkpoint was merged' {
            New-GoldenMachine
            Hyper-V\Checkpoint-VM -VM (Get-TestMachine golden) -SnapshotName before | Out-Null
            Get-VMSnapshot -VM (Get-TestMachine golden) | Remove-VMSnapshot
            (New-TestMachine).created | Should -BeTrue
        }

        It 'does not mistake a clone that is <_> for the machine of the template' -ForEach 'Off', 'Running',
            'PausedCritical' {
            New-TestMachine | Out-Null
            Invoke-Script 'Checkpoint-FarmVM' @{ Name = 'vm-1'; Checkpoint = 'clean' } | Out-Null
            if ($_ -eq 'Running') { Set-MachineState Running } else { (Get-TestMachine).State = $_ }
            (New-TestMachine @{ Name = 'vm-2' }).created | Should -BeTrue
        }

        It 'accepts a template whose machine is OffCritical' {
            New-GoldenMachine
            (Get-TestMachine golden).State = 'OffCritical'
            (New-TestMachine).created | Should -BeTrue
        }

        It 'ignores a machine whose disk lost its parent' {
            New-Template C:\farm-tests\else\parent.vhdx
            New-Child C:\farm-tests\else\x_1.avhdx C:\farm-tests\else\parent.vhdx
            New-OtherMachine broken C:\farm-tests\else\x_1.avhdx
            Remove-Item C:\farm-tests\else\parent.vhdx
            (New-TestMachine).created | Should -BeTrue
        }

        It 'changes no finished machine whose checkpoint was interrupted' {
            New-TestMachine | Out-Null
            $machine = Get-TestMachine
            $machine.ProcessorCount = 6
            $machine.CheckpointType = 'Standard'
            (New-TestMachine).created | Should -BeFalse
            (Get-TestMachine).ProcessorCount | Should -Be 6
        }

        It 'refuses a name that another machine has' {
            New-Template C:\farm-tests\templates\other.vhdx
            Hyper-V\New-VM -Name vm-1 -Generation 2 -VHDPath C:\farm-tests\templates\other.vhdx `
                -MemoryStartupBytes 2gb -Path C:\farm-tests\else | Out-Null
            Get-FailureId { New-TestMachine } | Should -Be 'Exists'
        }

        It 'reports a machine whose disk is missing' {
            New-TestMachine | Out-Null
            Remove-Item C:\farm-tests\farm\vm-1\vm-1.vhdx
            Get-FailureId { New-TestMachine } | Should -BeIn 'Exists', 'BadTemplate'
        }

        It 'accepts memory that is no multiple of 2 MB, or reports BadInput' {
            $failure = $null
            try { New-TestMachine @{ MemoryMinMb = 1025; MemoryMaxMb = 4097 } | Out-Null } catch { $failure = $_ }
            if ($failure) {
                $failure.FullyQualifiedErrorId | Should -BeIn 'BadInput', 'ParameterArgumentValidationError'
            }
        }

        It 'refuses a minimum of memory above the maximum' {
            Get-FailureId { New-TestMachine @{ MemoryMinMb = 8192; MemoryMaxMb = 4096 } } | Should -Be 'BadInput'
        }

        It 'refuses more processors than the host has' {
            Get-FailureId { New-TestMachine @{ Processors = 64 } } | Should -Be 'BadInput'
        }

        It 'refuses a folder on a drive that does not exist' {
            $failure = Get-Failure { New-TestMachine @{ Folder = 'X:\farm' } }
            $failure.FullyQualifiedErrorId | Should -BeIn 'NoSpace', 'BadInput'
            $failure.Exception.Message | Should -Match 'X:'
        }

        It 'recognises the template by the path <_>' -ForEach 'c:\FARM-TESTS\Templates\GAME.vhdx',
            'C:\farm-tests\x\..\templates\game.vhdx', 'C:\farm-tests\\templates\game.vhdx' {
            New-TestMachine | Out-Null
            (New-TestMachine @{ Template = $_ }).created | Should -BeFalse
        }

        It 'reports an account without rights to Hyper-V' {
            (Get-HyperVWorld).Denied = $true
            Get-FailureId { New-TestMachine } | Should -Be 'NotAllowed'
        }
    }

    Context 'with -Like' {
        BeforeEach {
            New-GoldenMachine
            $golden = Get-TestMachine golden
        }

        It 'copies the settings of the machine of the template' {
            Set-VMVideo -VM $golden -ResolutionType Single -HorizontalResolution 1280 -VerticalResolution 720
            Set-VMFirmware -VM $golden -EnableSecureBoot On -SecureBootTemplate MicrosoftUEFICertificateAuthority
            Set-VMProcessor -VM $golden -Count 4 -ExposeVirtualizationExtensions $true
            Set-VM -VM $golden -GuestControlledCacheTypes $true -LowMemoryMappedIoSpace 1gb `
                -HighMemoryMappedIoSpace 32gb
            Set-VMKeyProtector -VM $golden -NewLocalKeyProtector
            Enable-VMTPM -VM $golden
            Add-VMGpuPartitionAdapter -VM $golden -MinPartitionVRAM 80000000 -MaxPartitionVRAM 100000000 `
                -OptimalPartitionVRAM 90000000
            $answer = New-TestMachine @{ Like = 'golden' }
            $answer.created | Should -BeTrue
            $answer.warnings.Count | Should -Be 1
            $answer.warnings[0] | Should -Match 'BitLocker'
            Get-Difference | Should -BeNullOrEmpty
            $machine = Get-TestMachine
            $world = Get-HyperVWorld
            $machine.ProcessorCount | Should -Be 4
            "$($machine.CheckpointType)" | Should -Be 'Disabled'
            $world.Videos[$machine.Id].HorizontalResolution | Should -Be 1280
            $world.Gpus[$machine.Id].Count | Should -Be 1
            $world.Gpus[$machine.Id][0].MaxPartitionVRAM | Should -Be 100000000
            $world.Gpus[$machine.Id][0].MinPartitionEncode | Should -BeNullOrEmpty
            $world.Securities[$machine.Id].KeyProtector | Should -Not -Be $world.Securities[$golden.Id].KeyProtector
        }

        It 'copies the partitions of two GPUs' {
            Add-VMGpuPartitionAdapter -VM $golden -InstancePath '\\?\PCI#VEN_10DE#1' -MinPartitionCompute 1 `
                -MaxPartitionCompute 9 -OptimalPartitionCompute 5
            Add-VMGpuPartitionAdapter -VM $golden -InstancePath '\\?\PCI#VEN_1002#2'
            New-TestMachine @{ Like = 'golden' } | Out-Null
            (Get-HyperVWorld).Gpus[(Get-TestMachine).Id].InstancePath |
                Should -Be '\\?\PCI#VEN_10DE#1', '\\?\PCI#VEN_1002#2'
            Get-Difference | Should -BeNullOrEmpty
        }

        It 'prefers -Processors to the processors of the machine' {
            Set-VMProcessor -VM $golden -Count 6
            New-TestMachine @{ Like = 'golden'; Processors = 3 } | Out-Null
            (Get-TestMachine).ProcessorCount | Should -Be 3
        }

        It 'turns Secure Boot off if it is off on the machine' {
            Set-VMFirmware -VM $golden -EnableSecureBoot Off
            (New-TestMachine @{ Like = 'golden' }).warnings.Count | Should -Be 0
            "$((Get-HyperVWorld).Firmwares[(Get-TestMachine).Id].SecureBoot)" | Should -Be 'Off'
        }

        It 'finishes a machine after <_> failed, without a second GPU partition' -ForEach 'Set-VMProcessor',
            'Set-VMGpuPartitionAdapter', 'Enable-VMTPM' {
            Set-VMKeyProtector -VM $golden -NewLocalKeyProtector
            Enable-VMTPM -VM $golden
            Add-VMGpuPartitionAdapter -VM $golden -MinPartitionVRAM 1 -MaxPartitionVRAM 3 -OptimalPartitionVRAM 2
            # As after a power failure of the host: the machine that was created is not removed.
            Set-HyperVFault $_ (New-PlantedError)
            Set-HyperVFault 'Remove-VM' (New-PlantedError)
            (Get-Failure { New-TestMachine @{ Like = 'golden' } }).Exception.Message | Should -Be 'planted'
            (New-TestMachine @{ Like = 'golden' }).created | Should -BeFalse
            (Get-HyperVWorld).Gpus[(Get-TestMachine).Id].Count | Should -Be 1
            Get-Difference | Should -BeNullOrEmpty
        }

        It 'changes no machine that is finished' {
            New-TestMachine @{ Like = 'golden' } | Out-Null
            Set-VMVideo -VM (Get-TestMachine) -ResolutionType Single -HorizontalResolution 800 -VerticalResolution 600
            New-TestMachine @{ Like = 'golden' } | Out-Null
            Get-Difference | Should -Be 'screen'
        }

        It 'refuses -Like with a machine that is <case>' -ForEach @(
            @{ case = 'missing'; id = 'NoSuchMachine'; prepare = { $null } }
            @{ case = 'of generation 1'; id = 'BadTemplate'; prepare = { New-OddMachine 1 | Out-Null } }
            @{
                case = 'shielded'; id = 'BadTemplate'
                prepare = { (Get-HyperVWorld).Securities[(New-OddMachine 2).Id].Shielded = $true }
            }
        ) {
            & $prepare
            Get-FailureId { New-TestMachine @{ Like = 'odd' } } | Should -Be $id
            @(Get-TestMachine).Count | Should -Be 0
        }

        It 'changes nothing with -WhatIf' {
            Set-VMVideo -VM $golden -ResolutionType Single -HorizontalResolution 1280 -VerticalResolution 720
            $before = Get-HostText
            $calls = @(Get-HyperVCall).Count
            New-TestMachine @{ Like = 'golden'; WhatIf = $true } | Out-Null
            Get-HostText | Should -Be $before
            Get-ChangingCall $calls | Should -BeNullOrEmpty
        }
    }
}
