param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Initialize-FarmTemplate' {
    BeforeEach { $computer = New-TestComputer }
    AfterAll { Remove-TestComputer }

    It 'prepares a fresh Windows' {
        $answer = Invoke-Initialize
        Assert-Succeeded $answer
        Assert-Prepared $computer
        Assert-True ($computer.tasks.Count -eq 1) "there are $($computer.tasks.Count) tasks"
        $task = $computer.tasks[0]
        Assert-True ($task.Principal.UserId -eq 'S-1-5-21-11-22-33-1002' -and $task.Principal.RunLevel -eq 'Limited') `
            'the task belongs to another user'
        Assert-True ($task.Triggers[0].Repetition.Interval -eq 'PT1M' -and
            $task.Settings.ExecutionTimeLimit -eq 'PT0S') 'the task does not repeat, or has a limit'
        Assert-True (@($answer.json.left).Count -eq 0) "left: $($answer.json.left)"
    }

    It 'changes nothing in a second run' {
        Assert-Succeeded (Invoke-Initialize)
        $before = Get-FakeComputerText
        Assert-Succeeded (Invoke-Initialize)
        $after = Get-FakeComputerText
        $what = @(Compare-Object ($before -split "`n") ($after -split "`n") |
            ForEach-Object { "$($_.SideIndicator) $($_.InputObject)" }) -join ' '
        Assert-True ($after -ceq $before) "the second run changed: $what"
    }

    It 'changes nothing with -WhatIf' {
        $before = Get-FakeComputerText
        Assert-Succeeded (Invoke-Initialize @{ WhatIf = $true })
        Assert-Unchanged $computer $before
        Assert-True (-not (Test-Path -LiteralPath $computer.share)) 'the folder was created'
    }

    It 'writes only JSON when the firmware cannot hibernate' {
        $computer.power.hibernate = 'impossible'
        Assert-Succeeded (Invoke-Initialize)
    }

    It 'registers no task without -AgentProgram' {
        Assert-Succeeded (Invoke-Initialize @{ AgentProgram = ''; AgentArguments = '' })
        Assert-True ($computer.tasks.Count -eq 0) 'a task was registered'
    }

    It 'registers a task for a program without arguments' {
        Assert-Succeeded (Invoke-Initialize @{ AgentArguments = '' })
        Assert-True ($computer.tasks.Count -eq 1) 'no task was registered'
    }

    It 'does the rest and reports it without the power plan High performance' {
        $computer.power.high = $false
        $answer = Invoke-Initialize
        Assert-Succeeded $answer
        Assert-Prepared $computer
        Assert-True ("$($answer.json.left)" -match 'SCHEME_MIN') "left: $($answer.json.left)"
    }

    It 'does the rest and reports it while Defender is off (<_>)' -ForEach 'at a prompt', 'with -File' {
        $computer.defender = 'off'
        $answer = Invoke-Initialize -AsFile:($_ -eq 'with -File')
        Assert-True ($computer.tasks.Count -eq 1) 'no automatic logon and no task'
        Assert-True ($answer.ok) "stopped with '$(Format-Short $answer.message)' [$($answer.id)]"
        Assert-True ("$($answer.json.left)" -match 'Defender') `
            "the answer does not report it; left: '$($answer.json.left)'; shown: $(Format-Short "$($answer.errors)")"
    }

    It 'stops when New-SmbShare is denied (<_>)' -ForEach 'at a prompt', 'with -File' {
        $computer.shareDenied = $true
        Assert-Refused (Invoke-Initialize -AsFile:($_ -eq 'with -File')) '' 'denied'
    }

    It 'stops when the task scheduler denies access (<_>)' -ForEach 'at a prompt', 'with -File' {
        $computer.taskDenied = $true
        Assert-Refused (Invoke-Initialize -AsFile:($_ -eq 'with -File')) '' 'denied'
    }

    It 'stops when the firewall denies access (<_>)' -ForEach 'at a prompt', 'with -File' {
        $computer.firewallDenied = $true
        Assert-Refused (Invoke-Initialize -AsFile:($_ -eq 'with -File')) '' 'denied'
    }

    It 'does the rest on a Windows without Defender' {
        $answer = Invoke-Initialize -Without 'Defender'
        Assert-True ($computer.tasks.Count -eq 1) 'no automatic logon and no task'
        Assert-True ($answer.ok) "stopped with '$(Format-Short $answer.message)' [$($answer.id)]"
    }

    It 'names a module that is missing' {
        foreach ($module in 'SmbShare', 'NetSecurity', 'ScheduledTasks') {
            Assert-Refused (Invoke-Initialize -Without $module) '' $module
        }
    }

    It 'gives the share to another account in a second run, and removes the first' {
        Assert-Succeeded (Invoke-Initialize)
        Assert-Succeeded (Invoke-Initialize @{ ShareAccount = 'other' })
        Assert-True ($computer.shares[0].access -contains "$env:COMPUTERNAME\other") `
            'the new account may not use the share'
        Assert-True ($computer.shares[0].access -notcontains "$env:COMPUTERNAME\exchange") `
            'the old account may still use the share'
        Assert-True ((Get-FolderRights "$($computer.share)\inbox" 'exchange') -eq '') `
            "the old account still has on inbox: $(Get-FolderRights "$($computer.share)\inbox" 'exchange')"
    }

    It 'shares another folder in a second run' {
        Assert-Succeeded (Invoke-Initialize)
        Assert-Succeeded (Invoke-Initialize @{ ShareFolder = "$sandbox\new place" })
        Assert-True ($computer.shares[0].Path -eq "$sandbox\new place") 'the share still has the old folder'
    }

    It 'removes the rights of the previous player in a second run' {
        Add-SecondUser $computer
        Assert-Succeeded (Invoke-Initialize)
        Assert-Succeeded (Invoke-Initialize @{ Player = 'second' })
        Assert-True ((Get-FolderRights "$($computer.share)\outbox" 'player') -eq '') `
            "the old player still has: $(Get-FolderRights "$($computer.share)\outbox" 'player')"
    }

    It 'names the previous task in a second run with another task' {
        Assert-Succeeded (Invoke-Initialize)
        $answer = Invoke-Initialize @{ Task = 'other-agent' }
        Assert-Succeeded $answer
        # The script cannot know which task is wanted, so it reports the other one.
        Assert-True ("$($answer.json.left)" -match '\binbox-agent\b') `
            "two agents start at logon, and the answer does not name the other: $($answer.json.left)"
    }

    It 'keeps one share in a second run with another name' {
        Assert-Succeeded (Invoke-Initialize)
        Assert-Succeeded (Invoke-Initialize @{ Share = 'other' })
        Assert-True ($computer.shares.Count -eq 1) "two shares now: $($computer.shares | ForEach-Object { $_.Name })"
    }

    It 'reports a player who is not logged on' {
        Add-SecondUser $computer
        $answer = Invoke-Initialize @{ Player = 'second' }
        Assert-Succeeded $answer
        Assert-True ("$($answer.json.left)" -match 'screen saver' -and $answer.output[0] -match '"left":\[') `
            "left: $($answer.output)"
    }

    It 'sets all desktop settings and removes debuggers' {
        Set-Debugger
        Assert-Succeeded (Invoke-Initialize)
        foreach ($row in $desktopSettings) {
            $seen = (Get-ItemProperty -LiteralPath $row[1] -Name $row[2] -ErrorAction SilentlyContinue).($row[2])
            Assert-True ($null -ne $seen -and $seen -ceq $row[3] -and $seen.GetType() -eq $row[3].GetType()) `
                "$($row[1])!$($row[2]) is '$seen'"
        }
        foreach ($key in $aeDebug) {
            Assert-True ((Get-RegistryText $key 'Debugger') -eq '' -and (Get-RegistryText $key 'Auto') -eq '1') `
                "$key still has a debugger, or lost another value"
        }
        Assert-True ((Get-RegistryText $oneDriveRun 'OneDrive') -eq '') 'OneDrive still starts'
    }

    It 'names the settings of a player who is not logged on, and sets the rest' {
        Add-SecondUser $computer
        $answer = Invoke-Initialize @{ Player = 'second' }
        Assert-Succeeded $answer
        Assert-True (@($answer.json.left).Count -eq 1) "left: $($answer.json.left)"
        foreach ($row in $desktopSettings) {
            if ($row[1] -like 'HKLM:*') {
                Assert-True ((Get-RegistryText $row[1] $row[2]) -eq "$($row[3])") "$($row[2]) is not set"
            } else {
                Assert-True ($answer.json.left[0].Contains($row[0])) "$($row[0]) is not named: $($answer.json.left)"
            }
        }
        Assert-True (-not (Test-Path -LiteralPath 'Registry::HKEY_USERS\S-1-5-21-11-22-33-1009')) `
            'a hive was created for a user who is not logged on'
    }

    It 'refuses a player that does not exist' {
        $before = Get-FakeComputerText
        Assert-Refused (Invoke-Initialize @{ Player = 'missing' }) 'BadTemplate' '^missing: '
        Assert-Unchanged $computer $before
    }

    It 'refuses an account that is no administrator' {
        $before = Get-FakeComputerText
        Assert-Refused (Invoke-Initialize -Replace $noAdministrator) 'NotAllowed'
        Assert-Unchanged $computer $before
    }

    It 'does the rest and reports it when powercfg fails' {
        $computer.power.failing = @('monitor-timeout-dc')
        $answer = Invoke-Initialize
        Assert-Succeeded $answer
        Assert-Prepared $computer
        Assert-True ("$($answer.json.left)" -match 'monitor-timeout-dc.*\b1\b') "left: $($answer.json.left)"
    }

    It 'shares nothing when icacls fails' {
        $computer.icaclsFails = $true
        Assert-Refused (Invoke-Initialize) 'BadTemplate' 'icacls.*\b5\b'
        Assert-True ($computer.shares.Count -eq 0) 'a share was created'
    }

    It 'stops when the share password is against the policy' {
        $computer.passwordMinimum = 8
        Assert-Refused (Invoke-Initialize) '' 'password .*length, complexity'
    }

    It 'enables a share account that was disabled' {
        Add-ShareAccount $computer
        $user = @($computer.users | Where-Object { $_.Name -eq 'exchange' })[0]
        $user.Enabled = $false
        $user.NeverExpires = $false
        Assert-Succeeded (Invoke-Initialize)
        Assert-True $user.Enabled 'it still is disabled'
        Assert-True $user.NeverExpires 'its password expires'
    }

    It 'refuses the player as the share account' {
        Assert-Refused (Invoke-Initialize @{ ShareAccount = 'player' }) ''
        Assert-True (@($computer.users | Where-Object { $_.Name -eq 'player' })[0].Password -eq 'p') `
            'the player''s password was set to the share''s, so the automatic logon fails'
    }

    It 'refuses bad values before it changes anything' {
        $before = Get-FakeComputerText
        Assert-Refused (Invoke-Initialize @{ GameFolder = "$sandbox\none" }) 'BadTemplate' `
            "^$([regex]::Escape("$sandbox\none")): "
        Assert-Refused (Invoke-Initialize @{ AgentProgram = "$sandbox\none\pythonw.exe" }) 'BadTemplate' `
            "^$([regex]::Escape("$sandbox\none\pythonw.exe")): "
        Assert-Unchanged $computer $before
        $null = $computer.administrators.Add('S-1-5-21-11-22-33-1002')
        Assert-Refused (Invoke-Initialize) 'BadTemplate' '^player: '
        Assert-True ($computer.changes.Count -eq 0) "changes: $($computer.changes -join ', ')"
    }

    It 'reports that it could not read the administrators' {
        $computer.administratorsUnknown = $true
        $answer = Invoke-Initialize
        Assert-Succeeded $answer
        Assert-Prepared $computer
        Assert-True ("$($answer.json.left)" -match 'player.*Failed to compare two elements') `
            "left: $($answer.json.left)"
    }

    It 'removes the rights of all other accounts' {
        Assert-Succeeded (Invoke-Initialize)
        $before = Get-FakeComputerText
        foreach ($access in @('Everyone Full'), @("$env:COMPUTERNAME\exchange", 'Everyone Read'),
            @("$env:COMPUTERNAME\exchange", "$env:COMPUTERNAME\exchange Deny"), @()) {
            $computer.shares[0].access = [System.Collections.ArrayList] $access
            foreach ($part in '', '\inbox', '\status') {
                $aces = $computer.acl["$($computer.share)$part".ToLowerInvariant()].aces
                $null = $aces.Add(@{ sid = 'S-1-1-0'; rights = 'Modify' })
            }
            Assert-Succeeded (Invoke-Initialize)
            Assert-True ((Get-FakeComputerText) -ceq $before) "with the access $access the template differs afterwards"
        }
    }

    It 'keeps the rights of administrators limited over the network' {
        Assert-Succeeded (Invoke-Initialize)
        $value = Get-RegistryText 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System' `
            'LocalAccountTokenFilterPolicy'
        Assert-True ($value -in '', '0') "LocalAccountTokenFilterPolicy is $value"
    }

    It 'allows only the host to write in inbox' {
        Assert-Succeeded (Invoke-Initialize)
        Assert-True ((Get-FolderRights "$($computer.share)\inbox" 'exchange') -match 'Modify') 'the host may not write'
        Assert-True ((Get-FolderRights "$($computer.share)\inbox" 'player') -notmatch 'Modify|FullControl|Write') `
            "the player has on inbox: $(Get-FolderRights "$($computer.share)\inbox" 'player')"
    }

    It 'restricts a firewall rule for several ports with 445, unless the rule blocks' {
        $rule = @($computer.firewall | Where-Object { $_.Name -eq 'Game' })[0]
        $rule.Enabled = 'True'
        Assert-Succeeded (Invoke-Initialize)
        Assert-True ("$($rule.RemoteAddress)" -ne 'Any') 'it still opens TCP 445 to all addresses'
        # A rule that blocks fewer addresses lets the others in.
        $rule.Action = 'Block'
        $rule.RemoteAddress = @('Any')
        Assert-Succeeded (Invoke-Initialize)
        Assert-True ("$($rule.RemoteAddress)" -eq 'Any') 'a rule that blocks was restricted'
    }

    It 'accepts umlauts, spaces, quotes, dollars and long arguments' {
        $folder = "$sandbox\Gr${oe}${ss}e `$1 & 'x'"
        $arguments = '-m inbox_agent --share "C:\a b" -- "x y" ''$z'' ' + ("$ae" * 8000)
        $program = New-Program "$sandbox\Program Files\Python $ue"
        $more = @{ ShareFolder = $folder; AgentArguments = $arguments; AgentProgram = $program }
        Assert-Succeeded (Invoke-Initialize $more)
        Assert-True ($computer.shares[0].Path -ceq $folder) 'the share is elsewhere'
        Assert-True ($computer.tasks[0].Actions[0].Arguments -ceq $arguments) 'the arguments changed'
        Assert-True (Test-Path -LiteralPath "$folder\inbox\tmp") 'the folders are missing'
    }

    It 'refuses a network that is not valid' {
        Assert-EachRefused 'Initialize-FarmTemplate' (New-InitializeParameters $computer) @(
            @('Subnet', '192.168.77.0/99'), @('Subnet', '999.1.1.0/24'))
    }

    It 'refuses bad parameters by name' {
        Assert-EachRefused 'Initialize-FarmTemplate' (New-InitializeParameters $computer) @(
            @('Player', ''), @('Player', 'a b'), @('Player', 'a*'), @('Player', ('x' * 21)),
            @('ShareAccount', 'VM\exchange'), @('Share', 'a/b'), @('Share', 'x$'),
            @('ShareFolder', 'exchange'), @('ShareFolder', '\\server\share'), @('ShareFolder', 'C:\a*'),
            @('GameFolder', 'C:\'), @('GameFolder', ''),
            @('Subnet', '192.168.77.0'), @('Task', ''), @('Task', '\a\b'), @('AgentProgram', 'pythonw.exe'),
            @('AgentProgram', 'C:\x.bat'),
            @('PlayerPassword', 'plain'), @('SharePassword', 'plain'))
    }

    It 'refuses a newline at the end of a value' {
        Assert-EachRefused 'Initialize-FarmTemplate' (New-InitializeParameters $computer) `
            @(@('Share', "exchange`n"), @('ShareAccount', "exchange`n"), @('Subnet', "192.168.77.0/24`n"))
    }
}
