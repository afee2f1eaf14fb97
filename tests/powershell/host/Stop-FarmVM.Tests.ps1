param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Stop-FarmVM' {
    BeforeEach {
        Reset-Host
        New-TestMachine | Out-Null
        Set-MachineState Running
        $component = [pscustomobject] @{ SystemName = "$((Get-TestMachine).Id)".ToUpper() }
        Set-CimInstances Msvm_ShutdownComponent @($component)
        Set-CimMethod InitiateShutdown {
            (Get-HyperVWorld).Machines[0].State = 'Off'
            [pscustomobject] @{ ReturnValue = [uint32] 0 }
        }
    }

    It 'asks the guest to shut down' {
        $answer = Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 5 }
        $answer.off | Should -BeTrue
        $answer.state | Should -Be 'Off'
    }

    It 'answers that the machine runs when the guest refuses with <_>' -ForEach 32768, 32775 {
        Set-CimMethod InitiateShutdown ([scriptblock]::Create("[pscustomobject] @{ ReturnValue = [uint32] $_ }"))
        $answer = Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 3 }
        $answer.off | Should -BeFalse
        $answer.state | Should -Be 'Running'
    }

    It 'answers that the machine runs when it has no shutdown component' {
        Set-CimInstances Msvm_ShutdownComponent @()
        (Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 2 }).off | Should -BeFalse
    }

    It 'reports an account that may not read WMI' {
        Set-CimFault Msvm_ShutdownComponent 'Access denied'
        Get-FailureId { Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 2 } } | Should -Be 'NotAllowed'
    }

    It 'reports an account that may not call WMI methods, without a retry' {
        Set-CimMethod InitiateShutdown { throw (New-PlantedError 'Access denied' 'PermissionDenied') }
        $clock = [System.Diagnostics.Stopwatch]::StartNew()
        Get-FailureId { Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 20 } } | Should -Be 'NotAllowed'
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 10
    }

    It 'counts <_> as off' -ForEach 'Saved', 'SavedCritical', 'FastSaved', 'Hibernated', 'OffCritical' {
        (Get-TestMachine).State = $_
        $answer = Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 3 }
        $answer.off | Should -BeTrue
        $answer.state | Should -Be $_
    }

    It 'saves a machine that is <_>' -ForEach 'Running', 'Paused', 'RunningCritical' {
        (Get-TestMachine).State = $_
        $answer = Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 5; Save = $true }
        $answer.off | Should -BeTrue
        $answer.state | Should -Be 'Saved'
    }

    It 'leaves a machine alone with -Save that is <_>' -ForEach 'Off', 'Saved', 'Hibernated' {
        (Get-TestMachine).State = $_
        (Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 3; Save = $true }).state | Should -Be $_
    }

    It 'reports at once why a machine cannot be saved' {
        (Get-TestMachine).Status = 'cannot be saved'
        $clock = [System.Diagnostics.Stopwatch]::StartNew()
        $failure = Get-Failure { Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 20; Save = $true } }
        $failure.Exception.Message | Should -Match '0x80070070'
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 10
    }

    It 'reports TimedOut when a machine hangs while it is saved' {
        (Get-TestMachine).Status = 'hangs'
        $parameters = @{ Name = 'vm-1'; TimeoutSeconds = 2; Save = $true }
        Get-FailureId { Invoke-Script 'Stop-FarmVM' $parameters } | Should -Be 'TimedOut'
    }

    It 'saves nothing with -WhatIf' {
        $before = Get-HostText
        Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 2; Save = $true; WhatIf = $true } | Out-Null
        Get-HostText | Should -Be $before
    }

    It 'turns the machine off' {
        (Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 5; TurnOff = $true }).state | Should -Be 'Off'
    }

    It 'turns a machine off that is <_>' -ForEach 'Paused', 'PausedCritical', 'Saved', 'SavedCritical', 'FastSaved',
        'Hibernated', 'RunningCritical', 'Starting' {
        (Get-TestMachine).State = $_
        $answer = Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 4; TurnOff = $true }
        $answer.off | Should -BeTrue
    }

    It 'counts OffCritical as off with -TurnOff' {
        (Get-TestMachine).State = 'OffCritical'
        $answer = Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 3; TurnOff = $true }
        $answer.off | Should -BeTrue
    }

    It 'ends the worker process of a machine that hangs' {
        (Get-TestMachine).Status = 'hangs'
        $line = "`"C:\Windows\System32\vmwp.exe`" -s " + "$((Get-TestMachine).Id)".ToUpper()
        $worker = [pscustomobject] @{ Name = 'vmwp.exe'; ProcessId = [uint32] 424242; CommandLine = $line }
        Set-CimInstances Win32_Process @($worker)
        function global:Stop-Process {
            [CmdletBinding(SupportsShouldProcess)]
            param([int[]] $Id, [switch] $Force)
            (Get-HyperVWorld).Machines[0].State = 'Off'
            $global:Ended = $Id
        }
        try {
            (Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 4; TurnOff = $true }).off | Should -BeTrue
            $global:Ended | Should -Be 424242
        } finally {
            Remove-Item function:\Stop-Process
        }
    }

    It 'reports TimedOut when nothing turns the machine off' {
        (Get-TestMachine).Status = 'hangs'
        $parameters = @{ Name = 'vm-1'; TimeoutSeconds = 2; TurnOff = $true }
        Get-FailureId { Invoke-Script 'Stop-FarmVM' $parameters } | Should -Be 'TimedOut'
    }

    It 'ends within its time limit' {
        (Get-TestMachine).Status = 'hangs'
        $clock = [System.Diagnostics.Stopwatch]::StartNew()
        Get-Failure { Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 4; TurnOff = $true } } | Out-Null
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 6
    }

    It 'changes nothing with -WhatIf (<_>)' -ForEach $true, $false {
        $before = Get-HostText
        Invoke-Script 'Stop-FarmVM' @{ Name = 'vm-1'; TimeoutSeconds = 2; TurnOff = $_; WhatIf = $true } | Out-Null
        Get-HostText | Should -Be $before
    }

    It 'ends no worker process of another machine' {
        (Get-TestMachine).Status = 'hangs'
        $other = 'vmwp.exe 11111111-1111-1111-1111-111111111111'
        Set-CimInstances Win32_Process @(
            [pscustomobject] @{ Name = 'vmwp.exe'; ProcessId = [uint32] 1; CommandLine = $null }
            [pscustomobject] @{ Name = 'vmwp.exe'; ProcessId = [uint32] 2; CommandLine = $other }
        )
        $parameters = @{ Name = 'vm-1'; TimeoutSeconds = 2; TurnOff = $true }
        Get-FailureId { Invoke-Script 'Stop-FarmVM' $parameters } | Should -Be 'TimedOut'
    }
}
