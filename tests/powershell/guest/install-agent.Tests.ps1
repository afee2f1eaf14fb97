param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
    $isAdministrator = '[System.Security.Principal.WindowsPrincipal]::new($me).IsInRole($administrator)'
}

Describe 'install-agent' {
    BeforeEach { $computer = New-TestComputer }
    AfterAll { Remove-TestComputer }

    It 'unpacks the embedded Python without a prompt' {
        Set-PythonAnswer $computer
        $bundle = New-Bundle
        Assert-Succeeded (Invoke-Install $bundle @{ PythonFolder = '' })
        Assert-True (Test-Path -LiteralPath "$sandbox\farm\agent\python\python.exe") 'it was not unpacked'
        Assert-True ($computer.python.at -eq "$sandbox\farm\agent\python") "in $($computer.python.at)"
    }

    It 'installs an agent for a Python function' {
        Set-PythonAnswer $computer
        $bundle = New-Bundle
        $answer = Invoke-Install $bundle
        Assert-Succeeded $answer
        $request = Get-InstallRequest $computer
        Assert-True ($request.evaluator.python -eq 'my_game:play' -and $request.program -eq "$sandbox\farm\agent" -and
            $request.share -eq $computer.share -and $request.accept_evaluators -eq $false) "request: $request"
        Assert-True ("$($computer.python.args[0]) $($computer.python.args[1])" -eq "-I $bundle\install.py") `
            "python.exe $($computer.python.args)"
        Assert-True ($computer.python.at -eq "$sandbox\inside") "in $($computer.python.at)"
        Assert-True ($computer.tasks.Count -eq 1 -and
            $computer.tasks[0].Actions[0].Arguments -eq '-m inbox_agent --share x') 'the task differs'
        Assert-True ($computer.tasks[0].Principal.UserId -eq 'S-1-5-21-11-22-33-1002') `
            'the task belongs to another user'
    }

    It 'installs an agent that only plays what is deployed' {
        Set-PythonAnswer $computer
        Assert-Succeeded (Invoke-Install (New-Bundle) @{ Function = ''; GameFolder = ''; AcceptEvaluators = $true })
        $text = Get-InstallText $computer
        Assert-True ($text.Contains('"evaluator":{}') -and $text.Contains('"accept_evaluators":true') -and
            $text.Contains('"game":""')) "request: $text"
        Assert-True ($computer.tasks[0].Actions[0].WorkingDirectory -eq "$sandbox\farm\agent") 'the task differs'
    }

    It 'installs an agent that plays its own evaluator until one is deployed' {
        Set-PythonAnswer $computer
        Assert-Succeeded (Invoke-Install (New-Bundle) @{ AcceptEvaluators = $true })
        $request = Get-InstallRequest $computer
        Assert-True ($request.evaluator.python -eq 'my_game:play' -and $request.accept_evaluators -and
            $request.game -eq $computer.game) "request: $request"
    }

    It 'passes a command of one word as a list' {
        Set-PythonAnswer $computer
        Assert-Succeeded (Invoke-Install (New-Bundle) @{ Function = ''; Command = 'C:\game\bot.exe' })
        $text = Get-InstallText $computer
        Assert-True ($text.Contains('"command":["C:\\game\\bot.exe"]')) "request: $text"
    }

    It 'accepts quotes, umlauts, spaces and dollars' {
        $arguments = "-m inbox_agent --share `"C:\mein T${ae}usch `$1`" --config 'x'"
        Set-PythonAnswer $computer $arguments
        $command = 'C:\das Spiel\bot.exe', '{genome}', 'say "hi" & $x ''y'' %PATH%', "$ae$euro", '', '\"'
        $game = "$sandbox\das Spiel $ue `$(1) 'x'"
        $null = [System.IO.Directory]::CreateDirectory($game)
        $bundle = New-Bundle "mein B${ue}ndel `$x"
        Assert-Succeeded (Invoke-Install $bundle @{
            Function = ''; Command = $command; GameFolder = $game; ProgramFolder = "$sandbox\Pr${oe}gramm 1"
        })
        $request = Get-InstallRequest $computer
        Assert-True (($request.evaluator.command -join '|') -ceq ($command -join '|')) `
            "command: $($request.evaluator.command -join '|')"
        Assert-True ($request.game -ceq $game) "game: $($request.game)"
        Assert-True ($computer.tasks[0].Actions[0].Arguments -ceq $arguments -and
            $computer.tasks[0].Actions[0].WorkingDirectory -ceq $game) 'the task differs'
    }

    It 'changes nothing with -WhatIf' {
        Set-PythonAnswer $computer
        $bundle = New-Bundle
        $before = Get-FakeComputerText
        Assert-Succeeded (Invoke-Install $bundle @{ WhatIf = $true })
        Assert-Unchanged $computer $before
        Assert-True (-not (Test-Path -LiteralPath "$sandbox\farm") -and -not (Test-Path -LiteralPath $computer.share)) `
            'a folder was created'
    }

    It 'refuses to install twice' {
        Set-PythonAnswer $computer
        $bundle = New-Bundle
        Assert-Succeeded (Invoke-Install $bundle)
        $before = Get-FakeComputerText
        $computer.changes.Clear()
        Assert-Refused (Invoke-Install $bundle) 'Exists' "^$([regex]::Escape("$sandbox\farm\agent")): "
        Assert-Unchanged $computer $before
    }

    It 'refuses bad values before it changes anything' {
        Set-PythonAnswer $computer
        $bundle = New-Bundle
        $before = Get-FakeComputerText
        Assert-Refused (Invoke-Install $bundle @{ Player = 'missing' }) 'BadInput' '^missing: '
        Assert-Refused (Invoke-Install $bundle @{ GameFolder = "$sandbox\none" }) 'BadInput' `
            "^$([regex]::Escape("$sandbox\none")): "
        Assert-Refused (Invoke-Install $bundle @{ Function = '' }) 'BadInput' 'Function.*Command'
        Assert-Refused (Invoke-Install $bundle @{ Command = 'x' }) 'BadInput' 'Function.*Command'
        Assert-Refused (Invoke-Install $bundle @{ Command = 'x'; AcceptEvaluators = $true }) 'BadInput' 'Function.*Command'
        Assert-Refused (Invoke-Install $bundle @{ GameFolder = '' }) 'BadInput' 'GameFolder'
        Assert-Refused (Invoke-Install $bundle @{ PythonFolder = $computer.game }) 'BadInput' 'python\.exe'
        Assert-Refused (Invoke-Install $bundle -Replace @{ $isAdministrator = '$false' }) 'NotAllowed' '^player: '
        [System.IO.File]::Delete("$bundle\python-embedded.zip")
        Assert-Refused (Invoke-Install $bundle @{ PythonFolder = '' }) 'BadInput' 'python-embedded\.zip'
        Assert-Unchanged $computer $before
    }

    It 'needs no administrator for the own account' {
        Set-PythonAnswer $computer
        $bundle = New-Bundle
        # It stops before Python runs: 'Far' shows that it came so far without a look at the account's rights.
        $more = @{ Player = $env:USERNAME; PythonFolder = "$sandbox\inside" }
        $replace = @{
            $isAdministrator = '$(throw "looked at")'
            '$sent = [' = 'Stop-Because ''Far'' ''enough''; $sent = ['
        }
        Assert-Refused (Invoke-Install $bundle $more -Replace $replace) 'Far'
    }

    It 'reports a Python that writes nothing' {
        $bundle = New-Bundle
        foreach ($code in 0, 1) {
            $computer.python.lines = @()
            $computer.python.exit = $code
            Assert-Refused (Invoke-Install $bundle @{ ProgramFolder = "$sandbox\a$code" }) 'BadBundle' 'inside: '
        }
        Assert-True ($computer.tasks.Count -eq 0) 'a task was registered'
    }

    It 'reports what Python wrote: <output>' -ForEach @(
        @{
            output = 'garbage'; lines = @('Traceback (most recent call last):', '  ImportError: DLL load failed')
            exit = 1; words = 'Traceback|ImportError'
        }
        @{
            output = 'a failure after a warning'; lines = @('warning: old pip', '{"error":"no pip in the bundle"}')
            exit = 1; words = 'no pip in the bundle'
        }
        @{ output = 'an answer without the program'; lines = @('{}'); exit = 0; words = '\{\}' }
        @{
            output = 'a failure without the reason'; lines = @('{"program":"p"}'); exit = 3
            words = '\b3\b.*\{"program":"p"\}'
        }
        @{
            output = 'a failure with the whole answer'; lines = @('{"program":"p","arguments":"a"}'); exit = 3
            words = '\b3\b.*"arguments":"a"'
        }
        @{ output = 'an empty line'; lines = @(''); exit = 0; words = 'inside: ' }
        @{ output = 'a list'; lines = @('[]'); exit = 0; words = '\[\]' }
        @{ output = 'a word'; lines = @('"done"'); exit = 0; words = '"done"' }
    ) {
        $computer.python.lines = $lines
        $computer.python.exit = $exit
        $answer = Invoke-Install (New-Bundle)
        Assert-Refused $answer 'BadBundle' $words
        Assert-True ($computer.tasks.Count -eq 0) 'a task was registered'
    }

    It 'accepts an answer after a warning' {
        # Everything is installed; the answer is the last line.
        $computer.python.lines = @('warning: old pip', '{"program":"p","arguments":"a"}')
        $computer.python.exit = 0
        Assert-Succeeded (Invoke-Install (New-Bundle))
        Assert-True ($computer.tasks.Count -eq 1 -and $computer.tasks[0].Actions[0].Execute -eq 'p') `
            'the task is missing or differs'
    }

    It 'reports a bundle with a missing file, and installs after uninstall-agent' {
        $computer.python.lines = @('{"error":"C:\\bundle\\manifest.json: missing"}')
        $computer.python.exit = 1
        $bundle = New-Bundle
        Assert-Refused (Invoke-Install $bundle) 'BadBundle' 'manifest\.json: missing'
        Assert-True ($computer.tasks.Count -eq 0) 'a task was registered'
        # The message advises uninstall-agent.ps1; after that the installation works.
        Assert-Succeeded (Invoke-Uninstall $bundle)
        Set-PythonAnswer $computer
        Assert-Succeeded (Invoke-Install $bundle)
    }

    It 'stops at a damaged zip, and uninstall-agent removes the rest' {
        Set-PythonAnswer $computer
        $bundle = New-Bundle
        [System.IO.File]::WriteAllText("$bundle\python-embedded.zip", 'no zip')
        $answer = Invoke-Install $bundle @{ PythonFolder = '' }
        Assert-Refused $answer '' 'python-embedded.zip|archive|central directory|central record'
        # uninstall-agent.ps1 accepts the incomplete folder as one of the agent.
        Assert-Succeeded (Invoke-Uninstall $bundle)
        Assert-True (-not (Test-Path -LiteralPath "$sandbox\farm\agent")) 'the folder is still there'
    }

    It 'stops when arguments are too long for a command line' {
        Set-PythonAnswer $computer
        $answer = Invoke-Install (New-Bundle) @{ Function = ''; Command = @('C:\x.exe', ('y' * 30000)) }
        Assert-Refused $answer '' 'too long'
    }

    It 'stops when the task scheduler denies access (<_>)' -ForEach 'at a prompt', 'with -File' {
        Set-PythonAnswer $computer
        $computer.taskDenied = $true
        Assert-Refused (Invoke-Install (New-Bundle) -AsFile:($_ -eq 'with -File')) '' 'denied'
    }

    It 'refuses bad parameters by name' {
        $bundle = New-Bundle
        Assert-EachRefused "$bundle\install-agent.ps1" (New-InstallParameters $computer) @(
            @('Player', 'a\b'),
            @('Player', ('x' * 21)), @('ShareFolder', 'C:\'), @('ShareFolder', 'C:\x\'), @('GameFolder', '\\s\x'),
            @('Function', 'play'), @('Function', 'a:b c'), @('ProgramFolder', 'agent'), @('ProgramFolder', 'C:\a[1]'),
            @('PythonFolder', 'python'), @('Task', 'a/b'))
    }
}
