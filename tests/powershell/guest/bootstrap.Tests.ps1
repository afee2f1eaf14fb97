param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
    # What runs in the process of the bootstrap before it.
    $withTask = '
        $principal = [pscustomobject]@{ UserId = "S-1-5-21-11-22-33-1002"; LogonType = "Interactive" }
        $null = $computer.tasks.Add([pscustomobject]@{
            TaskName = "inbox-agent"; TaskPath = "\"; State = "Running"; stopLooks = 0; Principal = $principal
        })
    '
    $withShare = '
        $null = $computer.users.Add(@{
            Name = "exchange"; SID = "S-1-5-21-11-22-33-1008"; Enabled = $true; Password = "template"
            NeverExpires = $true
        })
    '
}

Describe 'bootstrap' {
    BeforeEach { $computer = New-TestComputer }
    AfterAll { Remove-TestComputer }

    It 'returns the answer of a script' {
        $answer = Invoke-Bootstrap 'Restart-FarmVMAgent' (New-RestartParameters) $withTask
        Assert-True ($answer.ok -eq $true -and $answer.code -eq 0) "reply: $($answer.reply)"
        Assert-True ($answer.reply.value -ceq '{"name":"vm-1","task":"inbox-agent","state":"Running"}') `
            "value: $($answer.reply.value)"
    }

    It 'returns the id of an error' {
        $answer = Invoke-Bootstrap 'Restart-FarmVMAgent' (New-RestartParameters @{ Name = 'vm-9' }) $withTask
        Assert-True ($answer.ok -eq $false) "reply: $($answer.reply)"
        Assert-True (($answer.reply.id -split ',')[0] -ceq 'NoSuchMachine') "id: $($answer.reply.id)"
        Assert-True ($answer.reply.message -match '^vm-9: ') "message: $($answer.reply.message)"
    }

    It 'accepts special characters in a password' {
        $password = "$ae" + '"''`$x %Y% &|<>^ ' + $euro
        $text = [System.Convert]::ToBase64String([System.Text.Encoding]::UTF8.GetBytes($password))
        $setup = "$withShare; `$text = [System.Convert]::FromBase64String('$text'); " +
            '$computer.users[1].Password = [System.Text.Encoding]::UTF8.GetString($text)'
        $parameters = New-IdentityParameters @{ Secret = $password; SharePassword = $password }
        $answer = Invoke-Bootstrap 'Set-FarmVMIdentity' $parameters $setup
        Assert-True ($answer.ok -eq $true) "reply: $($answer.reply)"
        Assert-True (($answer.reply.value | ConvertFrom-Json).restarted -eq $true) "value: $($answer.reply.value)"
    }

    It 'passes the text of -WhatIf on' {
        $answer = Invoke-Bootstrap 'Set-FarmVMIdentity' (New-IdentityParameters @{ WhatIf = $true }) $withShare
        Assert-True ($answer.ok -eq $true) "reply: $($answer.reply)"
        Assert-True ("$($answer.output)" -match 'What if: .*worker-1') "output: $($answer.output)"
    }

    It 'returns why a parameter is refused' {
        $answer = Invoke-Bootstrap 'Set-FarmVMIdentity' (New-IdentityParameters @{ Worker = '123' }) $withShare
        Assert-True ($answer.ok -eq $false) "reply: $($answer.reply)"
        Assert-True ($answer.reply.message -match 'Worker.*123') "message: $($answer.reply.message)"
    }

    It 'does not prompt for a parameter that is missing' {
        $parameters = New-IdentityParameters
        $parameters.Remove('Worker')
        $answer = Invoke-Bootstrap 'Set-FarmVMIdentity' $parameters $withShare
        Assert-True ($answer.ok -eq $false) "reply: $($answer.reply)"
        Assert-True ($answer.reply.message -match 'Worker') "message: $($answer.reply.message)"
    }

    It 'keeps a password that looks like a date' {
        # ConvertFrom-Json of PowerShell 7 converts it to a date; that of Windows PowerShell does not.
        $password = '2025-01-02T03:04:05Z'
        $setup = "$withTask; `$computer.users[1].Password = '$password'"
        $answer = Invoke-Bootstrap 'Restart-FarmVMAgent' (New-RestartParameters @{ Secret = $password }) $setup
        Assert-True ($answer.ok -eq $true) "reply: $($answer.reply)"
    }

    It 'ends when the guest never answers' {
        $setup = "$withTask; `$computer.guest = 'silent'"
        $answer = Invoke-Bootstrap 'Restart-FarmVMAgent' (New-RestartParameters @{ TimeoutSeconds = 2 }) $setup
        Assert-True (($answer.reply.id -split ',')[0] -ceq 'TimedOut') "id: $($answer.reply.id)"
        Assert-True ($answer.seconds -lt 25) "took $([int] $answer.seconds) s"
    }
}
