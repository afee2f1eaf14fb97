param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Get-FarmHost' {
    BeforeEach { Reset-Host }

    It 'reports switch, folder, template, memory and disk' {
        New-TestMachine | Out-Null
        Set-CimInstances Win32_OperatingSystem @([pscustomobject] @{ FreePhysicalMemory = [uint64] 8388608 })
        $answer = Invoke-Script 'Get-FarmHost' @{
            Switch = 'farm'; Folder = 'C:\farm-tests\farm'; Template = 'C:\farm-tests\templates\game.vhdx'
        }
        $answer.hyper_v | Should -BeTrue
        $answer.switch_type | Should -Be 'Internal'
        $answer.folder_exists | Should -BeTrue
        $answer.template_exists | Should -BeTrue
        $answer.template_read_only | Should -BeTrue
        $answer.free_memory_mb | Should -Be 8192
        $answer.free_disk_gb | Should -BeGreaterThan 0
        $answer.logical_processors | Should -Be 8
    }

    It 'reports missing parts without an error' {
        Set-CimFault Win32_OperatingSystem 'Access denied'
        $answer = Invoke-Script 'Get-FarmHost' @{ Switch = 'other'; Folder = 'X:\farm'; Template = 'Y:\no.vhdx' }
        $answer.switch_type | Should -Be ''
        $answer.folder_exists | Should -BeFalse
        $answer.template_exists | Should -BeFalse
        $answer.free_memory_mb | Should -BeNullOrEmpty
        $answer.free_disk_gb | Should -Be 0
    }

    It 'reports Hyper-V when the account has no rights' {
        (Get-HyperVWorld).Denied = $true
        (Invoke-Script 'Get-FarmHost' @{}).hyper_v | Should -BeTrue
    }

    It 'accepts a folder on a network share' {
        { Invoke-Script 'Get-FarmHost' @{ Folder = '\\server\share\farm' } } | Should -Not -Throw
    }

    It 'accepts characters that no path may have' {
        { Invoke-Script 'Get-FarmHost' @{ Folder = 'C:\a|b'; Template = 'C:\[x]\*.vhdx' } } | Should -Not -Throw
    }
}
