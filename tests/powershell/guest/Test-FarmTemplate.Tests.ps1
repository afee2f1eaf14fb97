param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"

    function Assert-NoScriptError($Answer) {
        # An item shows what it found, not an error of its own code.
        $wrong = @(Get-FailedItem $Answer | Where-Object { $_ -cmatch 'The property ''|Index was out' })
        Assert-True ($wrong.Count -eq 0) (Format-Short ($wrong -join ', '))
    }
}

Describe 'Test-FarmTemplate' {
    BeforeEach { $computer = New-TestComputer }
    AfterAll { Remove-TestComputer }

    It 'passes a prepared template' {
        Initialize-Template $computer
        $answer = Invoke-Test
        Assert-Succeeded $answer
        Assert-True (@($answer.json).Count -eq $itemCount) "$(@($answer.json).Count) items"
        Assert-True (@(Get-FailedItem $answer).Count -eq 0) `
            "failed: $(Format-Short ((Get-FailedItem $answer) -join ', '))"
    }

    It 'changes nothing' {
        Initialize-Template $computer
        $before = Get-FakeComputerText
        $computer.changes.Clear()
        Assert-Succeeded (Invoke-Test)
        Assert-Unchanged $computer $before
    }

    It 'has a text and an advice for each item of a fresh Windows' {
        $answer = Invoke-Test -AsFile
        Assert-Succeeded $answer
        Assert-True (@($answer.json).Count -eq $itemCount) "$(@($answer.json).Count) items"
        $without = @($answer.json | Where-Object { -not $_.ok -and ($_.cure -eq '' -or $_.found -eq '') })
        Assert-True ($without.Count -eq 0) "without a text: $($without | ForEach-Object { $_.item })"
        Assert-NoScriptError $answer
    }

    It 'keeps errors within their items at a prompt' {
        $answer = Invoke-Test
        Assert-Succeeded $answer
        Assert-NoScriptError $answer
    }

    It 'reads the output of a German powercfg' {
        Initialize-Template $computer
        $computer.power.language = 'de'
        Assert-True (Get-CheckItem (Invoke-Test) 'sleep').ok 'sleep failed'
        $computer.power.'monitor-timeout-ac' = 600
        $item = Get-CheckItem (Invoke-Test) 'sleep'
        Assert-True (-not $item.ok -and $item.found -match '\b600\b') "found: $($item.found)"
    }

    It 'reports a setting that powercfg does not know' {
        Initialize-Template $computer
        $computer.power.failing = @('standby-query')
        $item = Get-CheckItem (Invoke-Test) 'sleep'
        Assert-True (-not $item.ok -and $item.found -notmatch 'Index|range') "found: $($item.found)"
    }

    It 'finds a missing task (<_>)' -ForEach 'at a prompt', 'with -File' {
        Initialize-Template $computer
        $computer.tasks.Clear()
        $answer = Invoke-Test -AsFile:($_ -eq 'with -File')
        Assert-Succeeded $answer
        Assert-True ((Get-CheckItem $answer 'agent task').found -match 'inbox-agent') `
            "found: $((Get-CheckItem $answer 'agent task').found)"
        Assert-True (@(Get-FailedItem $answer).Count -eq 1) "failed: $((Get-FailedItem $answer) -join ', ')"
    }

    It 'finds a missing share (<_>)' -ForEach 'at a prompt', 'with -File' {
        Initialize-Template $computer
        $computer.shares.Clear()
        $answer = Invoke-Test -AsFile:($_ -eq 'with -File')
        Assert-Succeeded $answer
        Assert-True ((Get-CheckItem $answer 'share').found -match 'exchange') `
            "found: $((Get-CheckItem $answer 'share').found)"
    }

    It 'finds that Defender is off (<_>)' -ForEach 'at a prompt', 'with -File' {
        Initialize-Template $computer
        $computer.defender = 'off'
        $answer = Invoke-Test -AsFile:($_ -eq 'with -File')
        Assert-Succeeded $answer
        Assert-True ((Get-CheckItem $answer 'defender').found -match '800106ba|Defender') `
            "found: $((Get-CheckItem $answer 'defender').found)"
    }

    It 'finds that Defender is missing, and passes the rest' {
        Initialize-Template $computer
        $answer = Invoke-Test -Without 'Defender'
        Assert-Succeeded $answer
        Assert-True (@(Get-FailedItem $answer).Count -eq 1) "failed: $((Get-FailedItem $answer) -join ', ')"
    }

    It 'finds a BIOS, a server edition, no licence, a missing service and a stopped service' {
        Initialize-Template $computer
        $computer.secureBoot = 'BIOS'
        $computer.cim.Win32_OperatingSystem[0].ProductType = 3
        $computer.cim.SoftwareLicensingProduct = @()
        $computer.services.Remove('vmicguestinterface')
        $computer.services.vmicshutdown = 'Stopped'
        $answer = Invoke-Test
        Assert-Succeeded $answer
        $names = @($answer.json | Where-Object { -not $_.ok } | ForEach-Object { $_.item }) -join ', '
        Assert-True ($names -eq 'windows edition, generation 2, integration services, guest services, activation') `
            "failed: $names"
        Assert-True ((Get-CheckItem $answer 'integration services').found -match 'vmicshutdown') `
            "found: $((Get-CheckItem $answer 'integration services').found)"
    }

    It 'finds heartbeats that are not valid' {
        Initialize-Template $computer
        foreach ($text in '', 'garbage', '{}', '{"versions":{}}', '{"session":0,"versions":{"agent":"1"}}', '[]',
            'null') {
            Write-Heartbeat $computer $text
            $answer = Invoke-Test
            Assert-Succeeded $answer
            Assert-True (-not (Get-CheckItem $answer 'agent').ok -or
                -not (Get-CheckItem $answer 'console session').ok) "'$text' passed"
        }
    }

    It 'finds a heartbeat of the past or the future' {
        Initialize-Template $computer
        [System.IO.File]::SetLastWriteTimeUtc("$($computer.share)\status\agent.json", [datetime]::UtcNow.AddMinutes(-5))
        Assert-True (-not (Get-CheckItem (Invoke-Test) 'agent').ok) 'an old one passed'
        [System.IO.File]::SetLastWriteTimeUtc("$($computer.share)\status\agent.json", [datetime]::UtcNow.AddDays(1))
        $item = Get-CheckItem (Invoke-Test) 'agent'
        Assert-True (-not $item.ok) "one of tomorrow passed: $($item.found)"
    }

    It 'finds no user or another user at the console' {
        Initialize-Template $computer
        foreach ($who in $null, "$env:COMPUTERNAME\farm") {
            $computer.cim.Win32_ComputerSystem[0].UserName = $who
            $answer = Invoke-Test
            Assert-Succeeded $answer
            Assert-True (-not (Get-CheckItem $answer 'console session').ok) "'$who' passed"
        }
    }

    It 'finds a desktop that is too small or missing' {
        Initialize-Template $computer
        foreach ($size in @(@(800, 600, $false), @($null, $null, $false), @(1920, 1080, $true))) {
            $computer.cim.Win32_VideoController[0].CurrentHorizontalResolution = $size[0]
            $computer.cim.Win32_VideoController[0].CurrentVerticalResolution = $size[1]
            $answer = Invoke-Test
            Assert-Succeeded $answer
            Assert-True ((Get-CheckItem $answer 'desktop').ok -eq $size[2]) `
                "$($size[0]): $((Get-CheckItem $answer 'desktop').found)"
        }
    }

    It 'finds each wrong desktop setting in its own item' {
        Initialize-Template $computer
        foreach ($row in $desktopSettings) {
            $other = if ($row[3] -is [string]) { '9' } else { 9 }
            $type = if ($row[3] -is [string]) { 'String' } else { 'DWord' }
            Set-ItemProperty -LiteralPath $row[1] -Name $row[2] -Value $other -Type $type
            $wrong = @(Get-FailedItem (Invoke-Test))
            Assert-True ($wrong.Count -eq 1 -and $wrong[0] -match "^$($row[0]): .*$($row[2]) '9'") `
                "$($row[2]) is 9: $($wrong -join '; ')"
            Set-ItemProperty -LiteralPath $row[1] -Name $row[2] -Value $row[3] -Type $type
        }
        Remove-ItemProperty -LiteralPath $desktopSettings[0][1] -Name $desktopSettings[0][2]
        Assert-True (-not (Get-CheckItem (Invoke-Test) 'error dialogs').ok) 'a missing value passed'
    }

    It 'finds administrators who are not limited over the network' {
        Initialize-Template $computer
        Set-ItemProperty -LiteralPath 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System' `
            -Name LocalAccountTokenFilterPolicy -Value 1 -Type DWord
        Assert-True (-not (Get-CheckItem (Invoke-Test) 'network administrators').ok) 'it passed'
    }

    It 'finds a debugger, and a player who is not logged on' {
        Initialize-Template $computer
        Set-Debugger
        $item = Get-CheckItem (Invoke-Test) 'debuggers'
        Assert-True (-not $item.ok -and $item.found -match 'vsjitdebugger') "found: $($item.found)"
        Add-SecondUser $computer
        $answer = Invoke-Test @{ Player = 'second' }
        Assert-Succeeded $answer
        Assert-True ((Get-CheckItem $answer 'notifications').found -match '\bsecond\b') `
            "found: $((Get-CheckItem $answer 'notifications').found)"
        Assert-True (Get-CheckItem $answer 'lock screen').ok "found: $((Get-CheckItem $answer 'lock screen').found)"
    }

    It 'does not count the adapter of Hyper-V as a GPU' {
        Initialize-Template $computer
        $computer.cim.Win32_VideoController = @($computer.cim.Win32_VideoController[0])
        Assert-True (-not (Get-CheckItem (Invoke-Test) 'gpu').ok) 'the adapter of Hyper-V passed'
    }

    It 'finds a task of another user' {
        Initialize-Template $computer
        $computer.tasks[0].Principal.UserId = 'S-1-5-21-11-22-33-1001'
        $item = Get-CheckItem (Invoke-Test) 'agent task'
        Assert-True (-not $item.ok) "the task of another user passed: $($item.found)"
    }

    It 'finds that the player may write in inbox' {
        Initialize-Template $computer
        Assert-True (Get-CheckItem (Invoke-Test) 'folder rights').ok `
            'the rights that Initialize-FarmTemplate sets failed'
        foreach ($right in 'Modify', 'Write', 'FullControl') {
            $acl = $computer.acl["$($computer.share)\inbox".ToLowerInvariant()]
            $acl.aces = [System.Collections.ArrayList]@(@{ sid = $playerSid; rights = $right })
            $item = Get-CheckItem (Invoke-Test) 'folder rights'
            Assert-True (-not $item.ok -and $item.found -match 'player.*inbox') "$right passed: $($item.found)"
        }
    }

    It 'finds a rule that opens 445 among other ports' {
        Initialize-Template $computer
        $rule = @($computer.firewall | Where-Object { $_.Name -eq 'Game' })[0]
        $rule.Enabled = 'True'
        $rule.RemoteAddress = @('Any')
        foreach ($ports in @('80', '445'), @('400-500'), @('1-79', '440-445'), @('Any')) {
            $rule.LocalPort = $ports
            $item = Get-CheckItem (Invoke-Test) 'firewall smb'
            Assert-True (-not $item.ok) "TCP 445 is open by $ports, and the item passed: $($item.found)"
        }
        $rule.Protocol = 'Any'
        Assert-True (-not (Get-CheckItem (Invoke-Test) 'firewall smb').ok) `
            'TCP 445 is open by any protocol, and the item passed'
    }

    It 'passes rules that do not open the port' {
        Initialize-Template $computer
        $rule = @($computer.firewall | Where-Object { $_.Name -eq 'Game' })[0]
        $rule.Enabled = 'True'
        $rule.RemoteAddress = @('Any')
        foreach ($ports in @('80', '4450'), @('446-500'), @('1-444')) {
            $rule.LocalPort = $ports
            Assert-True (Get-CheckItem (Invoke-Test) 'firewall smb').ok "ports ${ports}: failed"
        }
        $rule.LocalPort = @('Any')
        $rule.Program = 'C:\game\game.exe'
        Assert-True (Get-CheckItem (Invoke-Test) 'firewall smb').ok 'any port of one program: failed'
        $rule.Program = 'Any'
        $rule.Package = 'S-1-15-2-1'
        Assert-True (Get-CheckItem (Invoke-Test) 'firewall smb').ok 'any port of an app: failed'
        $rule.Package = ''
        $rule.Action = 'Block'
        Assert-True (Get-CheckItem (Invoke-Test) 'firewall smb').ok 'a rule that blocks: failed'
    }

    It 'passes what Initialize-FarmTemplate repaired' {
        Initialize-Template $computer
        $computer.shares[0].access.Clear()
        $computer.shares[0].Path = 'C:\elsewhere'
        @($computer.users | Where-Object { $_.Name -eq 'exchange' })[0].Enabled = $false
        $null = Invoke-Initialize
        Write-Heartbeat $computer
        $answer = Invoke-Test
        Assert-True (@(Get-FailedItem $answer).Count -eq 0) "still failed: $((Get-FailedItem $answer) -join ', ')"
    }

    It 'accepts a share folder with a trailing backslash' {
        Assert-Succeeded (Invoke-Initialize @{ ShareFolder = "$($computer.share)\" })
        $item = Get-CheckItem (Invoke-Test) 'share'
        Assert-True $item.ok "the folder without it failed: $($item.found)"
    }

    It 'names a folder that is missing' {
        Initialize-Template $computer
        [System.IO.Directory]::Delete("$($computer.share)\outbox", $true)
        $answer = Invoke-Test
        Assert-Succeeded $answer
        Assert-True ((Get-CheckItem $answer 'folder rights').found -match 'outbox') `
            "found: $((Get-CheckItem $answer 'folder rights').found)"
    }

    It 'finds a disk under BitLocker' {
        Initialize-Template $computer
        $computer.cim.Win32_EncryptableVolume = @(
            @{ DriveLetter = 'C:'; ProtectionStatus = 0 }, @{ DriveLetter = 'D:'; ProtectionStatus = 1 })
        $item = Get-CheckItem (Invoke-Test) 'bitlocker'
        Assert-True (-not $item.ok -and $item.found -match 'D:' -and $item.found -notmatch 'C:') "found: $($item.found)"
        $computer.cim.Win32_EncryptableVolume[1].ProtectionStatus = 0
        $item = Get-CheckItem (Invoke-Test) 'bitlocker'
        Assert-True $item.ok "no protected disk failed: $($item.found)"
    }

    It 'has no item for BitLocker on a Windows without it' {
        Initialize-Template $computer
        Assert-True ($null -eq (Get-CheckItem (Invoke-Test) 'bitlocker')) 'there is such an item'
    }

    It 'checks nothing of the game without its folder' {
        Initialize-Template $computer
        $computer.exclusions.Remove($computer.game)
        Assert-True (-not (Get-CheckItem (Invoke-Test) 'defender').ok) 'the folder of the game is not excluded'
        $item = Get-CheckItem (Invoke-Script 'Test-FarmTemplate' @{
            Player = 'player'; ShareFolder = $computer.share; FreeGb = 1
        }) 'defender'
        Assert-True ($item.ok -and $item.found -notmatch 'game') "found: $($item.found)"
    }

    It 'refuses bad parameters by name' {
        Assert-EachRefused 'Test-FarmTemplate' (New-TestParameters $computer) @(
            @('Player', ''),
            @('GameFolder', 'game'), @('Subnet', '10.0.0.0'), @('Width', 100), @('Height', 'x'), @('FreeGb', 0),
            @('Task', 'a;b'))
    }

    It 'hides no other item when a module is missing' {
        Initialize-Template $computer
        foreach ($pair in @(@('ScheduledTasks', 1), @('SmbShare', 3), @('NetSecurity', 2), @('SecureBoot', 1))) {
            $answer = Invoke-Test -Without $pair[0]
            Assert-Succeeded $answer
            Assert-True (@($answer.json).Count -eq $itemCount -and @(Get-FailedItem $answer).Count -eq $pair[1]) `
                "$($pair[0]): failed: $((Get-FailedItem $answer) -join ', ')"
        }
    }
}
