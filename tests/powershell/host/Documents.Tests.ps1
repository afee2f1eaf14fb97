# The PowerShell blocks of docs/how-to/template-vm.md and docs/how-to/hyper-v.md: they parse, use parameters that
# exist, and create what the page says.
param([Parameter(Mandatory)] [string] $Root)

BeforeDiscovery {
    $blocks = foreach ($page in 'template-vm', 'hyper-v') {
        $text = [System.IO.File]::ReadAllText("$Root\docs\how-to\$page.md")
        $number = 0
        foreach ($found in [regex]::Matches($text, '(?ms)^ *```powershell\r?\n(.*?)^ *```')) {
            $number++
            @{ page = $page; number = $number; code = $found.Groups[1].Value }
        }
    }
}

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
    $templatePage = [System.IO.File]::ReadAllText("$Root\docs\how-to\template-vm.md")

    function Get-Block([string] $Heading, [int] $Index = 0) {
        # A block of a section, with its drive D: in the folder of the tests.
        $pattern = "(?ms)^## $([regex]::Escape($Heading))\r?\n(.*?)(?=^## |\z)"
        $part = [regex]::Match($templatePage, $pattern).Groups[1].Value
        $code = [regex]::Matches($part, '(?ms)^ *```powershell\r?\n(.*?)^ *```')[$Index].Groups[1].Value
        $code.Replace('D:\', 'C:\farm-tests\')
    }

    function Invoke-Block([string] $Code) {
        Push-Location -LiteralPath $scripts
        try { & ([scriptblock]::Create($Code)) } finally { Pop-Location }
    }
}

Describe 'documents' {
    It 'block <number> of <page> parses' -ForEach $blocks {
        $tokens = $null
        $errors = $null
        [System.Management.Automation.Language.Parser]::ParseInput($code, [ref] $tokens, [ref] $errors) | Out-Null
        $errors | Should -BeNullOrEmpty
    }

    It 'block <number> of <page> uses parameters that exist' -ForEach $blocks {
        $tokens = $null
        $errors = $null
        $tree = [System.Management.Automation.Language.Parser]::ParseInput($code, [ref] $tokens, [ref] $errors)
        $calls = $tree.FindAll({ $args[0] -is [System.Management.Automation.Language.CommandAst] }, $true)
        $wrong = foreach ($call in $calls) {
            $name = "$($call.GetCommandName())"
            if ($name -like '*.ps1') {
                $file = "$scripts\$([System.IO.Path]::GetFileName($name))"
                if (-not (Test-Path -LiteralPath $file)) { continue }  # a script of the agent's bundle
                $known = (Get-Command $file).Parameters.Keys
            } elseif ($name -match '-VM|-VHD|Checkpoint-VM') {
                $command = Get-Command $name -ErrorAction SilentlyContinue
                if ($null -eq $command) {
                    "no $name"
                    continue
                }
                $known = $command.Parameters.Keys
            } else {
                continue
            }
            $call.CommandElements |
                Where-Object { $_ -is [System.Management.Automation.Language.CommandParameterAst] } |
                Where-Object { $_.ParameterName -notin $known } | ForEach-Object { "$name -$($_.ParameterName)" }
        }
        $wrong | Should -BeNullOrEmpty
    }

    Context 'docs/how-to/template-vm.md, in its order' {
        BeforeAll {
            Reset-Host
            Clear-TestFolder
            New-Item -ItemType Directory C:\farm-tests\iso | Out-Null
            [System.IO.File]::WriteAllText('C:\farm-tests\iso\windows.iso', '')
            (Get-HyperVWorld).Switches.Clear()
            Set-HyperVFault 'New-VMSwitch' { Add-NetAdapterStandIn 'vEthernet (farm)' }
        }

        It '1. creates the switch' {
            (Invoke-Block (Get-Block '1. The switch') | ConvertFrom-Json).created | Should -BeTrue
        }

        It '2. creates the machine' {
            Invoke-Block (Get-Block '2. The machine') | Out-Null
            $machine = (Get-HyperVWorld).Machines[0]
            $machine.Name | Should -Be 'template'
            $machine.Generation | Should -Be 2
            $machine.AutomaticCheckpointsEnabled | Should -BeFalse
            @((Get-HyperVWorld).Services[$machine.Id] | Where-Object { -not $_.Enabled }) | Should -BeNullOrEmpty
            (Get-HyperVWorld).Videos[$machine.Id].HorizontalResolution | Should -Be 1280
        }

        It '2. boots the machine from the DVD, not from the network' {
            $machine = (Get-HyperVWorld).Machines[0]
            "$((Get-HyperVWorld).Firmwares[$machine.Id].BootOrder | ForEach-Object { $_.GetType().Name })" |
                Should -Match '^DvdDrive'
        }

        It '4. copies the scripts into the guest' {
            Start-VM -Name template
            Invoke-Block (Get-Block '4. Everything else' 0)
            Test-Path 'C:\farm-tests\guest\template\farm\Initialize-FarmTemplate.ps1' | Should -BeTrue
            Test-Path 'C:\farm-tests\guest\template\farm\Test-FarmTemplate.ps1' | Should -BeTrue
        }

        It '6. leaves the machine off, without ISO and checkpoint' {
            $code = Get-Block '6. Close it'
            # The call inside the guest is left out: there is no guest. The machine is turned off instead.
            $code = [regex]::Replace($code, '(?m)^Invoke-Command .*\r?\n', '')
            Stop-VM -Name template -TurnOff
            Invoke-Block $code
            $machine = (Get-HyperVWorld).Machines[0]
            @(Get-VMSnapshot -VM $machine) | Should -BeNullOrEmpty
            "$((Get-HyperVWorld).Dvds[$machine.Id].Path)" | Should -Be ''
        }

        It '7. creates clones' {
            Set-CimInstances Msvm_ShutdownComponent @()
            # The calls inside the guest are left out, and the power is cut: there is no guest that shuts down.
            $code = [regex]::Replace((Get-Block '7. Clones'), '(?m)^\.\\Set-FarmVMIdentity\.ps1(.*`\r?\n)*.*\r?\n', '')
            $code = $code.Replace('.\Stop-FarmVM.ps1 -Name vm-1 -TimeoutSeconds 120',
                '.\Stop-FarmVM.ps1 -Name vm-1 -TimeoutSeconds 10 -TurnOff')
            $answers = Invoke-Block $code | ForEach-Object { ConvertFrom-Json -InputObject $_ }
            $answers[0].created | Should -BeTrue
            (Get-HyperVWorld).Snapshots[0].Name | Should -Be 'clean'
            $machine = (Get-HyperVWorld).Machines | Where-Object { $_.Name -eq 'vm-1' }
            (Get-HyperVWorld).Videos[$machine.Id].HorizontalResolution | Should -Be 1280
        }

        It '8. starts the machine of the template with a copy of the disk, which may be changed' {
            Invoke-Block (Get-Block '8. Update the template' 0)
            $copy = 'C:\farm-tests\templates\game-2.vhdx'
            (Get-Item -LiteralPath $copy).IsReadOnly | Should -BeFalse
            (Get-Item -LiteralPath $copy.Replace('-2', '')).IsReadOnly | Should -BeTrue
            $machine = (Get-HyperVWorld).Machines | Where-Object { $_.Name -eq 'template' }
            "$($machine.State)" | Should -Be 'Running'
            @(Get-VMHardDiskDrive -VM $machine).Path | Should -Be $copy
        }
    }
}
