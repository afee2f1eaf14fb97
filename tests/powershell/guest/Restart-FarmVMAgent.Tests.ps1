param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
}

Describe 'Restart-FarmVMAgent' {
    BeforeEach { $computer = New-TestComputer }
    AfterAll { Remove-TestComputer }

    It 'refuses machines that are missing, ambiguous, off or unreadable' {
        $computer.machines.Clear()
        Assert-Refused (Invoke-Restart @{ TimeoutSeconds = 3 }) 'NoSuchMachine' '^vm-1: '
        foreach ($i in 1, 2) {
            $null = $computer.machines.Add(@{ Name = 'vm-1'; Id = [guid]::NewGuid(); State = 'Running' })
        }
        Assert-Refused (Invoke-Restart @{ TimeoutSeconds = 3 }) 'NotAllowed' '\b2\b'
        $computer.machines.RemoveAt(0)
        $computer.machines[0].State = 'Off'
        Assert-Refused (Invoke-Restart @{ TimeoutSeconds = 3 }) 'GuestRefused' '\bOff\b'
        $computer.vmProblem = 'denied'
        Assert-Refused (Invoke-Restart @{ TimeoutSeconds = 3 }) 'NotAllowed' 'required permission'
        $computer.vmProblem = 'other'
        Assert-Refused (Invoke-Restart @{ TimeoutSeconds = 3 }) '' 'not running'
        Assert-Refused (Invoke-Restart @{ TimeoutSeconds = 3 } -Without 'Hyper-V') 'NoHyperV'
        Assert-True ($computer.guestCalls -eq 0) 'a guest was called'
    }

    It 'ends and starts a task that is <_>' -ForEach 'Running', 'Ready' {
        Add-AgentTask $computer $_
        $answer = Invoke-Restart
        Assert-Succeeded $answer
        Assert-True ($answer.json.state -eq 'Running') "state: $($answer.json.state)"
        $changes = $computer.changes -join ', '
        Assert-True ($changes -eq 'Stop-ScheduledTask inbox-agent, Start-ScheduledTask inbox-agent') "changes: $changes"
    }

    It 'waits for a task that ends slowly, with a space in its name' {
        Add-AgentTask $computer 'Running' 'my agent'
        $computer.taskStopLooks = 3
        Assert-Succeeded (Invoke-Restart @{ Task = 'my agent' })
        Assert-True ($computer.changes -contains 'Start-ScheduledTask my agent') 'it was not started'
    }

    It 'does not report a task as restarted that does not end' {
        Add-AgentTask $computer
        $computer.taskStopLooks = -1
        $answer = Invoke-Restart @{ TimeoutSeconds = 40 }
        Assert-True (-not $answer.ok) "output: $($answer.output), but the old agent still runs"
    }

    It 'changes nothing and calls no guest with -WhatIf' {
        Add-AgentTask $computer
        $before = Get-FakeComputerText
        Assert-Succeeded (Invoke-Restart @{ WhatIf = $true })
        Assert-Unchanged $computer $before
        Assert-True ($computer.guestCalls -eq 0) 'the guest was called'
    }

    It 'reports a task that does not exist' {
        $answer = Invoke-Restart
        Assert-Refused $answer 'GuestRefused' '\binbox-agent\b'
        # The task scheduler's own words name no task.
        Assert-True ($answer.message -notmatch 'cannot find the file') "message: $(Format-Short $answer.message)"
    }

    It 'reports a task that does not start because no user is logged on' {
        Add-AgentTask $computer 'Ready'
        $computer.loggedOn.Clear()
        Assert-Refused (Invoke-Restart) 'GuestRefused' '\bReady\b'
    }

    It 'reports a program that ends at once' {
        Add-AgentTask $computer 'Ready'
        $computer.programFails = $true
        Assert-Refused (Invoke-Restart) 'GuestRefused' '\bReady\b'
    }

    It 'reports a task that is disabled' {
        Add-AgentTask $computer 'Disabled'
        Assert-Refused (Invoke-Restart) 'GuestRefused' ': The task is disabled'
    }

    It 'reports TimedOut for a guest that never answers' {
        Add-AgentTask $computer
        $computer.guest = 'silent'
        $answer = Invoke-Restart @{ TimeoutSeconds = 2 }
        Assert-Refused $answer 'TimedOut' '\b2 s\b'
        Assert-True ($answer.seconds -lt 6) "took $([int] $answer.seconds) s"
    }

    It 'refuses a wrong password' {
        Add-AgentTask $computer
        Assert-Refused (Invoke-Restart @{ Secret = 'wrong' }) 'GuestRefused' 'credential is invalid'
    }

    It 'refuses bad parameters by name' {
        Assert-EachRefused 'Restart-FarmVMAgent' (New-RestartParameters) @(
            @('Name', 'vm 1'), @('Account', ''),
            @('Secret', ''), @('Task', ''), @('Task', '\x'), @('Task', 'a*'), @('TimeoutSeconds', 0),
            @('TimeoutSeconds', 1.5e9))
    }
}
