param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"

    function Get-Screen([hashtable] $More = @{}) {
        # The instance of the stand-in is no CIM instance, so the script's cast to one is left out.
        $text = (Get-ScriptText 'Get-FarmVMScreen').Replace('[ciminstance] $settings', '$settings')
        $parameters = @{ Name = 'vm-1' } + $More
        ConvertFrom-Json -InputObject (@(& ([ScriptBlock]::Create($text)) @parameters) -join '')
    }
}

Describe 'Get-FarmVMScreen' {
    BeforeEach {
        Reset-Host
        New-GuestMachine
        $id = "$((Get-HyperVWorld).Machines[0].Id)".ToUpper()
        $checkpoint = [pscustomobject] @{
            VirtualSystemIdentifier = $id; VirtualSystemType = 'Microsoft:Hyper-V:Snapshot:Realized'
            mark = 'checkpoint'
        }
        $machine = [pscustomobject] @{
            VirtualSystemIdentifier = $id; VirtualSystemType = 'Microsoft:Hyper-V:System:Realized'
            mark = 'machine'
        }
        Set-CimInstances Msvm_VirtualSystemSettingData @($checkpoint, $machine)
        Set-CimInstances Msvm_VirtualSystemManagementService @([pscustomobject] @{ Name = 'vmms' })
        Set-CimMethod GetVirtualSystemThumbnailImage {
            if ($args[1].TargetSystem.mark -ne 'machine') { throw 'not the machine' }
            [pscustomobject] @{
                ReturnValue = [uint32] 0; ImageData = [byte[]]::new(2 * $args[1].WidthPixels * $args[1].HeightPixels)
            }
        }
    }

    It 'takes a picture of the machine and not of its checkpoint' {
        $answer = Get-Screen @{ Width = 64; Height = 48 }
        [Convert]::FromBase64String($answer.rgb565).Length | Should -Be (2 * 64 * 48)
    }

    It 'reports that there is no picture (<_>)' -ForEach 32768, 32775 {
        $method = "[pscustomobject] @{ ReturnValue = [uint32] $_; ImageData = `$null }"
        Set-CimMethod GetVirtualSystemThumbnailImage ([scriptblock]::Create($method))
        Get-FailureId { Get-Screen } | Should -Be 'GuestRefused'
    }

    It 'reports an account that may not read WMI' {
        Set-CimFault Msvm_VirtualSystemSettingData 'Access denied'
        Get-FailureId { Get-Screen } | Should -Be 'NotAllowed'
    }

    It 'reports a machine that WMI does not know' {
        Set-CimInstances Msvm_VirtualSystemSettingData @()
        Set-CimMethod GetVirtualSystemThumbnailImage {
            [pscustomobject] @{ ReturnValue = [uint32] 32773; ImageData = $null }
        }
        Get-FailureId { Get-Screen } | Should -Be 'GuestRefused'
    }
}
