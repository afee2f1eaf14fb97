param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'uninstall-agent' {
    BeforeEach { $computer = New-TestComputer }
    AfterAll { Remove-TestComputer }

    It 'keeps the folder when the task scheduler denies access (<_>)' -ForEach 'at a prompt', 'with -File' {
        Set-PythonAnswer $computer
        $bundle = New-Bundle
        Assert-Succeeded (Invoke-Install $bundle)
        $computer.taskDenied = $true
        Assert-Refused (Invoke-Uninstall $bundle -AsFile:($_ -eq 'with -File')) '' 'denied'
        Assert-True (Test-Path -LiteralPath "$sandbox\farm\agent") `
            'the folder was removed, and the task starts it each minute'
    }

    It 'removes task and folder, keeps share and state folder, and accepts a second run' {
        $bundle = Install-Agent $computer
        $answer = Invoke-Uninstall $bundle
        Assert-Succeeded $answer
        Assert-True ($answer.output[0] -match '"folders":\["') "not a list: $($answer.output)"
        Assert-True ($computer.tasks.Count -eq 0 -and -not (Test-Path -LiteralPath "$sandbox\farm\agent")) `
            'it is still there'
        Assert-True ((Test-Path -LiteralPath $computer.share) -and
            (Test-Path -LiteralPath "$sandbox\profile\AppData\Local\inbox-agent")) 'share or state folder was removed'
        $answer = Invoke-Uninstall $bundle
        Assert-Succeeded $answer
        Assert-True ($answer.json.task -eq 0 -and $answer.output[0] -match '"folders":\[\]') `
            "second time: $($answer.output)"
    }

    It 'removes share and state folder with -All' {
        $bundle = Install-Agent $computer
        Assert-Succeeded (Invoke-Uninstall $bundle @{ All = $true })
        foreach ($one in "$sandbox\farm\agent", $computer.share, "$sandbox\profile\AppData\Local\inbox-agent") {
            Assert-True (-not (Test-Path -LiteralPath $one)) "$one is still there"
        }
    }

    It 'completes a partial removal with -All' {
        $bundle = Install-Agent $computer
        [System.IO.Directory]::Delete($computer.share, $true)
        Assert-Succeeded (Invoke-Uninstall $bundle @{ All = $true })
        Assert-Succeeded (Invoke-Uninstall $bundle @{ All = $true })
    }

    It 'accepts a player who never logged on with -All' {
        $bundle = Install-Agent $computer
        Add-SecondUser $computer
        Assert-Succeeded (Invoke-Uninstall $bundle @{ All = $true; Player = 'second' })
    }

    It 'refuses with -All a folder that Windows still shares' {
        $bundle = Install-Agent $computer
        $null = $computer.shares.Add(@{
            Name = 'exchange'; Path = $computer.share; EncryptData = $true; CachingMode = 'None'; access = @()
        })
        $answer = Invoke-Uninstall $bundle @{ All = $true }
        Assert-True (-not $answer.ok -or $computer.shares.Count -eq 0) `
            'the folder was removed, the SMB share still names it'
    }

    It 'changes nothing with -WhatIf' {
        $bundle = Install-Agent $computer
        $before = Get-FakeComputerText
        Assert-Succeeded (Invoke-Uninstall $bundle @{ All = $true; WhatIf = $true })
        Assert-Unchanged $computer $before
        Assert-True (Test-Path -LiteralPath "$sandbox\farm\agent") 'the folder is gone'
    }

    It 'refuses folders with unknown files' {
        $bundle = Install-Agent $computer
        $before = Get-FakeComputerText
        [System.IO.File]::WriteAllText("$sandbox\farm\agent\mine $ue.txt", 'x')
        Assert-Refused (Invoke-Uninstall $bundle) 'NotAllowed' "mine $ue\.txt"
        [System.IO.File]::Delete("$sandbox\farm\agent\mine $ue.txt")
        [System.IO.File]::WriteAllText("$($computer.share)\mine.txt", 'x')
        [System.IO.File]::SetAttributes("$($computer.share)\mine.txt", 'Hidden')
        Assert-Refused (Invoke-Uninstall $bundle @{ All = $true }) 'NotAllowed' 'mine\.txt'
        Assert-Refused (Invoke-Uninstall $bundle @{ All = $true; ShareFolder = $computer.game; Player = 'missing' }) `
            'BadInput' '^missing: '
        Assert-Unchanged $computer $before
        Assert-True (Test-Path -LiteralPath "$sandbox\farm\agent") 'the folder is gone'
    }

    It 'refuses a folder with another Python in it' {
        $bundle = Install-Agent $computer
        $null = [System.IO.Directory]::CreateDirectory("$sandbox\tools\python")
        [System.IO.File]::WriteAllText("$sandbox\tools\python\mine.py", 'x')
        $answer = Invoke-Uninstall $bundle @{ ProgramFolder = "$sandbox\tools" }
        Assert-True (Test-Path -LiteralPath "$sandbox\tools\python\mine.py") `
            "the other Python was removed: $($answer.output)"
    }

    It 'recognises a folder without settings by the program of the task' {
        $bundle = Install-Agent $computer
        [System.IO.File]::Delete("$sandbox\farm\agent\agent.toml")
        $null = [System.IO.Directory]::CreateDirectory("$sandbox\farm\agent\python")
        Assert-Refused (Invoke-Uninstall $bundle) 'NotAllowed' 'agent\.toml'
        $computer.tasks[0].Actions[0].Execute = "`"$sandbox\FARM\agent\python\pythonw.exe`""
        Assert-Succeeded (Invoke-Uninstall $bundle)
        Assert-True (-not (Test-Path -LiteralPath "$sandbox\farm\agent")) 'the folder is still there'
    }

    It 'removes nothing when the task does not end' {
        $bundle = Install-Agent $computer
        $computer.taskStopLooks = -1
        $answer = Invoke-Uninstall $bundle
        Assert-True (-not $answer.ok) "output: $($answer.output), but the agent still runs, and no task can end it"
        Assert-True ($computer.tasks.Count -eq 1 -and (Test-Path -LiteralPath "$sandbox\farm\agent")) `
            'the task or its folder is gone'
    }

    It 'refuses bad parameters by name' {
        $bundle = Install-Agent $computer
        Assert-EachRefused "$bundle\uninstall-agent.ps1" (New-UninstallParameters $computer) @(
            @('Player', 'a*'),
            @('ShareFolder', 'C:\'), @('ProgramFolder', 'C:\'), @('ProgramFolder', 'C:\x\'), @('Task', '*'))
    }
}
