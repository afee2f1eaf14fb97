param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Complete-FarmTemplate' {
    BeforeEach { $computer = New-TestComputer }
    AfterAll { Remove-TestComputer }

    It 'ends the agent, empties share and state folder, enables the task and shuts down' {
        Initialize-UsedTemplate $computer
        $computer.repeats = 'enabled'
        $answer = Invoke-Complete
        Assert-Succeeded $answer
        Assert-True ($answer.json.off -eq $true -and @($answer.json.left).Count -eq 0) "answer: $($answer.output)"
        Assert-True ($computer.changes[-1] -eq 'Stop-Computer') "the last change was $($computer.changes[-1])"
        Assert-True ("$($computer.atShutdown.tasks)" -eq 'inbox-agent Ready True') "task: $($computer.atShutdown.tasks)"
        Assert-True ($computer.atShutdown.files.Count -eq 0) "left in the share: $($computer.atShutdown.files)"
        foreach ($one in 'inbox\tmp', 'outbox\tmp', 'status') {
            Assert-True (Test-Path -LiteralPath "$($computer.share)\$one") "$one is gone"
        }
        Assert-True (@([System.IO.Directory]::GetDirectories("$($computer.share)\outbox")).Count -eq 1) `
            'the folder of an attempt is still there'
        Assert-True (-not (Test-Path -LiteralPath "$sandbox\profile\AppData\Local\inbox-agent")) `
            'the state folder is still there'
        Assert-True (Test-Path -LiteralPath "$sandbox\profile\AppData\Local\other") `
            'more than the state folder was removed'
        Assert-True (@($computer.changes | Where-Object { $_ -like 'wevtutil*' }).Count -eq 0) 'event logs were cleared'
    }

    It 'keeps the rights on the share folder' {
        Initialize-UsedTemplate $computer
        $before = ConvertTo-Json -Compress -Depth 6 -InputObject $computer.acl
        Assert-Succeeded (Invoke-Complete @{ ShareFolder = "$($computer.share)\" })
        Assert-True ((ConvertTo-Json -Compress -Depth 6 -InputObject $computer.acl) -ceq $before) 'the rights changed'
    }

    It 'changes nothing with -WhatIf' {
        Initialize-UsedTemplate $computer
        $before = Get-FakeComputerText
        $answer = Invoke-Complete @{ WhatIf = $true; ClearEventLogs = $true }
        Assert-Succeeded $answer
        Assert-True ($answer.json.off -eq $false) "answer: $($answer.output)"
        Assert-Unchanged $computer $before
        Assert-True ((Test-Path -LiteralPath "$($computer.share)\status\agent.json") -and
            (Test-Path -LiteralPath "$sandbox\profile\AppData\Local\inbox-agent")) 'something was removed'
    }

    It 'waits for an agent that ends slowly' {
        Initialize-UsedTemplate $computer
        $computer.taskStopLooks = 4
        Assert-Succeeded (Invoke-Complete @{ TimeoutSeconds = 20 })
        Assert-True ($computer.atShutdown.files.Count -eq 0) "left in the share: $($computer.atShutdown.files)"
    }

    It 'stops with the task enabled when the agent does not end' {
        Initialize-UsedTemplate $computer
        $computer.taskStopLooks = -1
        Assert-Refused (Invoke-Complete) 'TimedOut' '^inbox-agent: .*\b2 s\b'
        Assert-True ($computer.changes -notcontains 'Stop-Computer') 'the machine was shut down'
        Assert-True ($computer.tasks[0].Settings.Enabled -eq $true) 'the task is left disabled'
        Assert-True (Test-Path -LiteralPath "$($computer.share)\status\agent.json") `
            'files of a running agent were removed'
    }

    It 'stops with the task enabled when an agent runs without the task' {
        Initialize-UsedTemplate $computer
        # An open lock file, as the agent has one.
        $lock = [System.IO.File]::Open("$sandbox\profile\AppData\Local\inbox-agent\0123456789abcdef\lock", 'Open',
            'ReadWrite', 'ReadWrite')
        try { Assert-Refused (Invoke-Complete) 'TimedOut' 'AppData\\Local\\inbox-agent' } finally { $lock.Dispose() }
        Assert-True ($computer.changes -notcontains 'Stop-Computer') 'the machine was shut down'
        Assert-True ($computer.tasks[0].Settings.Enabled -eq $true) 'the task is left disabled'
        Assert-Succeeded (Invoke-Complete)
    }

    It 'does not shut down when the agent runs again' {
        Initialize-UsedTemplate $computer
        $computer.repeats = 'always'
        Assert-Refused (Invoke-Complete) 'BadTemplate' '^inbox-agent: '
        Assert-True ($computer.changes -notcontains 'Stop-Computer') 'the machine was shut down'
    }

    It 'leaves the task enabled when the shutdown fails' {
        Initialize-UsedTemplate $computer
        $computer.restartFails = $true
        Assert-Refused (Invoke-Complete) '' 'Access is denied'
        Assert-True ($computer.tasks[0].Settings.Enabled -eq $true) 'the task is left disabled'
    }

    It 'stops when the task scheduler denies (<_>)' -ForEach 'at a prompt', 'with -File' {
        Initialize-UsedTemplate $computer
        $computer.taskDenied = $true
        Assert-Refused (Invoke-Complete -AsFile:($_ -eq 'with -File')) '' 'denied'
        Assert-True (Test-Path -LiteralPath "$($computer.share)\status\agent.json") `
            'files of a running agent were removed'
        Assert-True ($computer.changes -notcontains 'Stop-Computer') 'the machine was shut down'
    }

    It 'clears event logs with -ClearEventLogs' {
        Initialize-UsedTemplate $computer
        $computer.logFails = @('Setup')
        $answer = Invoke-Complete @{ ClearEventLogs = $true }
        Assert-Succeeded $answer
        $cleared = @($computer.changes | Where-Object { $_ -like 'wevtutil*' }) -join ', '
        Assert-True ($cleared -eq 'wevtutil clear-log Application, wevtutil clear-log System') "cleared: $cleared"
        Assert-True ("$($answer.json.left)" -match '\bSetup\b') "left: $($answer.json.left)"
    }

    It 'accepts a player who never logged on' {
        Initialize-UsedTemplate $computer
        Add-SecondUser $computer
        Assert-Succeeded (Invoke-Complete @{ Player = 'second' })
    }

    It 'refuses bad values before it changes anything' {
        Initialize-UsedTemplate $computer
        $before = Get-FakeComputerText
        Assert-Refused (Invoke-Complete @{ Player = 'missing' }) 'BadTemplate' '^missing: '
        Assert-Refused (Invoke-Complete @{ Task = 'other' }) 'BadTemplate' '^other: '
        Assert-Refused (Invoke-Complete @{ ShareFolder = $computer.game }) 'BadTemplate' `
            "^$([regex]::Escape($computer.game)): "
        Assert-Refused (Invoke-Complete -Replace $noAdministrator) 'NotAllowed'
        Assert-Unchanged $computer $before
    }

    It 'refuses bad parameters by name' {
        Initialize-UsedTemplate $computer
        Assert-EachRefused 'Complete-FarmTemplate' (New-CompleteParameters) @(
            @('Player', ''), @('Player', "player`n"),
            @('ShareFolder', 'exchange'), @('ShareFolder', 'C:\'), @('Task', 'a*'), @('TimeoutSeconds', 0))
    }
}
