<#
.SYNOPSIS
Runs the tests of the PowerShell scripts against stand-ins of Windows' modules.

.DESCRIPTION
Run it on Windows as administrator, in PowerShell 7 or Windows PowerShell 5.1, with Pester 5. It creates and removes
C:\farm-tests, folders farm-tests-* in the local application data and keys HKCU:\Software\FarmTests-*; the compiled
program of the host's tests stays in farm-tests-echo. Each test file runs in a process of its own, because its stand-ins
shadow the cmdlets of Windows. README.md says what the tests show.

The last line has the counts. The exit code is 0 if every test passed, 1 if one failed, 2 if the tests cannot run here.

.PARAMETER Root
The root folder of the checkout.

.PARAMETER Path
The test files, by default all.

.PARAMETER InThisProcess
Runs the files in this process. Meant for the processes that this script starts.

.EXAMPLE
.\tests\powershell\run.ps1

.EXAMPLE
.\tests\powershell\run.ps1 -Path .\tests\powershell\host\Stop-FarmVM.Tests.ps1
#>
[CmdletBinding()]
param(
    [string] $Root = "$PSScriptRoot\..\..",
    [string[]] $Path = @("$PSScriptRoot\host\*.Tests.ps1", "$PSScriptRoot\guest\*.Tests.ps1"),
    [switch] $InThisProcess
)
$ErrorActionPreference = 'Stop'

if ($PSVersionTable.PSVersion.Major -ge 6 -and -not $IsWindows) {
    'Windows is required: the stand-ins use its registry, its accounts and its paths.'
    exit 2
}
$pester = @(Get-Module -ListAvailable -Name Pester |
    Where-Object { $_.Version -ge [version] '5.4' -and $_.Version -lt [version] '6.0' })
if ($pester.Count -eq 0) {
    'Pester 5 is missing: Install-Module Pester -RequiredVersion 5.7.1 -Scope CurrentUser -Force -SkipPublisherCheck'
    exit 2
}
$Root = (Resolve-Path -LiteralPath $Root).ProviderPath
$files = @($Path | ForEach-Object { Get-ChildItem -Path $_ } | ForEach-Object { $_.FullName })

if ($InThisProcess) {
    Import-Module -Name Pester -MinimumVersion '5.4' -MaximumVersion '5.999'
    $settings = New-PesterConfiguration
    $settings.Run.Container = @($files | ForEach-Object { New-PesterContainer -Path $_ -Data @{ Root = $Root } })
    $settings.Run.PassThru = $true
    $settings.Output.Verbosity = 'Detailed'
    $settings.Output.RenderMode = 'Plaintext'
    $settings.Should.ErrorAction = 'Continue'  # a test reports every failed assertion
    $settings.TestDrive.Enabled = $false
    $settings.TestRegistry.Enabled = $false
    $result = Invoke-Pester -Configuration $settings
    $failed = $result.FailedCount + $result.FailedContainersCount + $result.FailedBlocksCount
    [Console]::Out.WriteLine("$($result.PassedCount) passed, $failed failed, $($result.SkippedCount) skipped")
    [Console]::Out.Flush()
    # `exit` would wait for jobs of guests that never answer.
    [System.Environment]::Exit([int] ($failed -gt 0))
}

$user = [System.Security.Principal.WindowsPrincipal]::new([System.Security.Principal.WindowsIdentity]::GetCurrent())
if (-not $user.IsInRole([System.Security.Principal.WindowsBuiltInRole]::Administrator)) {
    'An administrator is required: the scripts of a guest check for one. Start PowerShell with Run as administrator.'
    exit 2
}
if (-not $env:FARM_ECHO) {
    # The program that Invoke-FarmVMCommand runs in its tests.
    $compiler = "$env:SystemRoot\Microsoft.NET\Framework64\v4.0.30319\csc.exe"
    if (-not (Test-Path -LiteralPath $compiler)) {
        "$compiler is missing: build tests\powershell\host\echo with dotnet build, and set FARM_ECHO to echoargs.exe"
        exit 2
    }
    $folder = "$([System.Environment]::GetFolderPath('LocalApplicationData'))\farm-tests-echo"
    $null = New-Item -ItemType Directory -Force -Path $folder
    $env:FARM_ECHO = "$folder\echoargs.exe"
    & $compiler /nologo "/out:$env:FARM_ECHO" "$PSScriptRoot\host\echo\Program.cs"
    if ($LASTEXITCODE -ne 0) { exit 2 }
}

$program = [System.Diagnostics.Process]::GetCurrentProcess().MainModule.FileName
$passed = 0
$failed = 0
$skipped = 0
foreach ($file in $files) {
    $last = ''
    & $program -NoProfile -NonInteractive -ExecutionPolicy Bypass -File $PSCommandPath -Root $Root -Path $file `
        -InThisProcess | ForEach-Object {
            $last = "$_"
            "$_"
        }
    if ($last -match '^(\d+) passed, (\d+) failed, (\d+) skipped$') {
        $passed += [int] $Matches[1]
        $failed += [int] $Matches[2]
        $skipped += [int] $Matches[3]
    } else {
        "$file did not finish"
        $failed++
    }
}
Remove-Item -LiteralPath C:\farm-tests -Recurse -Force -ErrorAction SilentlyContinue
"$passed passed, $failed failed, $skipped skipped"
exit [int] ($failed -gt 0 -or $passed -eq 0)
