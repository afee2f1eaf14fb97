param([Parameter(Mandatory)] [string] $Root)

BeforeAll {
    . "$PSScriptRoot\Support.ps1"
    Import-Module "$PSScriptRoot\Modules\PowerShellDirect\PowerShellDirect.psm1" -Force -Global
    $program = $env:FARM_ECHO  # README.md says what it does; run.ps1 builds it

    function Invoke-Inside([string[]] $Arguments, [int] $Limit = 10, [string] $File = $program) {
        Invoke-Script 'Invoke-FarmVMCommand' @{
            Name = 'vm-1'; Account = 'farm'; Secret = 'Geh3im$'; FilePath = $File; ArgumentList = $Arguments
            TimeoutSeconds = $Limit
        }
    }

    function Get-ProgramId {
        $name = [System.IO.Path]::GetFileNameWithoutExtension($program)
        @(Get-Process -Name $name -ErrorAction SilentlyContinue | ForEach-Object { $_.Id })
    }
}

Describe 'Invoke-FarmVMCommand' {
    BeforeEach {
        Reset-Host
        New-GuestMachine
        Set-GuestState answers
    }

    It 'runs a program' {
        $answer = Invoke-Inside @('exit', '0')
        $answer.exit_code | Should -Be 0
        $answer.output | Should -Be ''
    }

    It 'reports the exit code <_>' -ForEach 1, 255, -1, -1073741819 {
        (Invoke-Inside @('exit', "$_")).exit_code | Should -Be $_
    }

    It 'passes each argument unchanged' {
        $given = 'plain', 'a b', '', '"', 'a"b c"', '\', 'C:\a b\', 'ends\\', '\"', 'a\\"b', '%PATH%', '$x', '`',
            "tab`there", "$([char] 0xfc)ml$([char] 0xe4)ut $([char] 0x20ac)", '*', '^&|<>', "'", '--', '/all'
        $answer = Invoke-Inside (@('args') + $given)
        $got = @($answer.output -split "`r?`n" | Select-Object -SkipLast 1 |
            ForEach-Object { [System.Text.Encoding]::UTF8.GetString([System.Convert]::FromBase64String($_)) })
        $got | Should -Be $given
    }

    It 'runs a program without arguments' { (Invoke-Inside @()).output | Should -Match 'hello' }

    It 'reads both streams of a program that writes 4 MB' {
        $answer = Invoke-Inside @('flood', '2000') 30
        $answer.exit_code | Should -Be 3
        $answer.output.Length | Should -BeGreaterThan 3900000
    }

    It 'ends a program that exceeds the time limit' {
        $clock = [System.Diagnostics.Stopwatch]::StartNew()
        Get-FailureId { Invoke-Inside @('sleep', '60000') 2 } | Should -Be 'TimedOut'
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 8
    }

    It 'answers when the program has ended and its child still runs' {
        $clock = [System.Diagnostics.Stopwatch]::StartNew()
        $failure = $null
        try { $answer = Invoke-Inside @('leave', '45000') 5 } catch { $failure = $_ }
        $failure | Should -BeNullOrEmpty
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 10
    }

    It 'ends the children of a program that exceeds the time limit' {
        # Processes of other cases do not count.
        $before = @(Get-ProgramId)
        Get-FailureId { Invoke-Inside @('leavehang', '50000') 3 } | Should -Be 'TimedOut'
        Start-Sleep -Seconds 1
        @(Get-ProgramId | Where-Object { $_ -notin $before }).Count | Should -Be 0
    }

    It 'reports a program that does not exist' {
        Get-FailureId { Invoke-Inside @() 5 'C:\no\such.exe' } | Should -Be 'GuestRefused'
    }

    It 'reports a refused account without its password' {
        Set-GuestState refused
        $failure = Get-Failure { Invoke-Inside @() }
        $failure.FullyQualifiedErrorId | Should -Be 'GuestRefused'
        $failure.Exception.Message | Should -Not -Match 'Geh3im'
    }

    It 'reports a guest that does not answer' {
        Set-GuestState silent
        Get-FailureId { Invoke-Inside @() 1 } | Should -Be 'TimedOut'
    }

    It 'refuses a machine that is off' {
        (Get-HyperVWorld).Machines[0].State = 'Off'
        Get-FailureId { Invoke-Inside @() } | Should -Be 'GuestRefused'
    }
}
