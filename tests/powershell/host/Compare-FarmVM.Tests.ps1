param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Compare-FarmVM' {
    BeforeEach {
        Reset-Host
        New-GoldenMachine
        $golden = Get-TestMachine golden
    }

    It 'lists each setting that differs' {
        New-TestMachine | Out-Null
        Set-VMVideo -VM $golden -ResolutionType Maximum -HorizontalResolution 1920 -VerticalResolution 1080
        Set-VMFirmware -VM $golden -EnableSecureBoot Off
        Set-VMProcessor -VM $golden -Count 4 -ExposeVirtualizationExtensions $true
        Set-VM -VM $golden -GuestControlledCacheTypes $true -LowMemoryMappedIoSpace 1gb -HighMemoryMappedIoSpace 32gb
        Set-VMKeyProtector -VM $golden -NewLocalKeyProtector
        Enable-VMTPM -VM $golden
        Add-VMGpuPartitionAdapter -VM $golden -MinPartitionVRAM 80000000
        Get-Difference | Should -Be 'processors', 'nested', 'screen', 'secure_boot', 'tpm', 'guest_cache_types',
            'low_io_space', 'high_io_space', 'gpu', 'gpu_parts'
    }

    It 'changes nothing while the machine runs' {
        New-TestMachine | Out-Null
        Set-MachineState Running
        $before = Get-HostText
        $calls = @(Get-HyperVCall).Count
        Get-Difference | Out-Null
        Get-HostText | Should -Be $before
        Get-ChangingCall $calls | Should -BeNullOrEmpty
    }

    It 'reports a machine that does not exist' {
        $parameters = @{ Name = @('vm-9'); Like = 'golden' }
        Get-FailureId { Invoke-Script 'Compare-FarmVM' $parameters } | Should -Be 'NoSuchMachine'
    }
}
