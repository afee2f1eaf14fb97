param([Parameter(Mandatory)] [string] $Root)

BeforeDiscovery {
    $template = @{ Template = 'C:\farm-tests\templates\game.vhdx'; Folder = 'C:\farm-tests\farm'; Switch = 'farm' }
    $withParameters = Get-ChildItem "$Root\hyperv_ops\hyperv\scripts\*.ps1", "$Root\pipeline\bundle\installer\*.ps1" |
        Where-Object { $_.Name -like '*-*' } | ForEach-Object { @{ script = $_.Name; file = $_.FullName } }
}

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'all scripts' {
    BeforeEach { Reset-Host }

    It '<script> accepts no value that ends in a newline' -ForEach $withParameters {
        $lines = 'vm-1', 'a b', 'player', 'clean', 'C:\a', 'C:\a.vhdx', 'C:\a.exe', '192.168.77.1', '192.168.77.0/24',
            'my_game:play', 'AAAA', '' | ForEach-Object { "$_`n" }
        foreach ($parameter in (Get-Command $file).Parameters.Values) {
            foreach ($pattern in @($parameter.Attributes | Where-Object { $_ -is [ValidatePattern] })) {
                @($lines | Where-Object { $_ -match $pattern.RegexPattern }) |
                    Should -BeNullOrEmpty -Because "$($parameter.Name): $($pattern.RegexPattern)"
            }
        }
    }

    It '<script> reports an account without rights at <at>' -ForEach @(
        @{ script = 'Start-FarmVM'; at = 'Start-VM'; more = @{} }
        @{ script = 'Checkpoint-FarmVM'; at = 'Checkpoint-VM'; more = @{ Checkpoint = 'clean' } }
        @{ script = 'Restore-FarmVM'; at = 'Get-VMSnapshot'; more = @{ Checkpoint = 'clean' } }
        @{ script = 'Remove-FarmVM'; at = 'Remove-VM'; more = @{ Folder = 'C:\farm-tests\farm' } }
        @{ script = 'Remove-FarmVM'; at = 'Get-VHD'; more = @{ Folder = 'C:\farm-tests\farm' } }
        @{ script = 'New-FarmVM'; at = 'Get-VMHardDiskDrive'; more = $template }
        @{ script = 'New-FarmVM'; at = 'Get-VHD'; more = $template }
        @{ script = 'Get-FarmVM'; at = 'Get-VMNetworkAdapter'; more = @{} }
        @{ script = 'Compare-FarmVM'; at = 'Get-VMVideo'; more = @{ Like = 'vm-1' } }
    ) {
        New-TestMachine | Out-Null
        Set-HyperVFault $at (New-PlantedError 'planted' 'PermissionDenied') 3
        $parameters = @{ Name = 'vm-1' } + $more
        Get-FailureId { Invoke-Script $script $parameters } | Should -Be 'NotAllowed'
    }

    It 'parse and are ASCII' {
        foreach ($file in Get-ChildItem "$Root\hyperv_ops\hyperv\scripts\*.ps1", "$Root\pipeline\bundle\installer\*.ps1") {
            $errors = $null
            $null = [System.Management.Automation.Language.Parser]::ParseFile(
                $file.FullName, [ref] $null, [ref] $errors)
            @($errors | ForEach-Object { $_.Message }) | Should -BeNullOrEmpty -Because $file.Name
            # Windows PowerShell reads a file without a byte order mark in the code page of the computer.
            [System.IO.File]::ReadAllText($file.FullName) | Should -Not -MatchExactly '[^\x00-\x7f]' -Because $file.Name
        }
    }
}
