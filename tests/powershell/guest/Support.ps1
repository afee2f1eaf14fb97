# Shared by the test files of the guest: calls of a script against the stand-in modules, assertions, and the computers
# that the scripts run on. A test file reads this in its BeforeAll; $Root is the folder of the checkout.
$ErrorActionPreference = 'Stop'
$scripts = "$Root\hyperv_ops\hyperv\scripts"
$installer = "$Root\pipeline\bundle\installer"
# Not in TEMP, whose path may have short names, which Windows PowerShell expands.
$sandbox = "$([System.Environment]::GetFolderPath('LocalApplicationData'))\farm-tests-$PID"
$registryKey = "HKCU:\Software\FarmTests-$PID"
$standIns = @(Get-ChildItem -Path "$PSScriptRoot\Modules\*\*.psd1" | ForEach-Object { $_.FullName })
$env:PSModulePath = "$PSScriptRoot\Modules;$env:PSModulePath"
foreach ($one in $standIns) { Import-Module $one -Force -DisableNameChecking -Global }

# These files are ASCII, as Windows PowerShell reads them in the code page of the computer.
$ae, $oe, $ue, $ss, $euro = [char[]] (0xe4, 0xf6, 0xfc, 0xdf, 0x20ac)
$playerSid = 'S-1-5-21-11-22-33-1002'
$playerHive = "Registry::HKEY_USERS\$playerSid"
$playerPassword = "p`"$ae `$x"
$profileKey = "HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList\$playerSid"

# --- a computer for each test ----------------------------------------------------------------------------------------

function New-TestComputer {
    $computer = New-FakeComputer
    Remove-Sandbox
    $null = [System.IO.Directory]::CreateDirectory($sandbox)
    $computer.share = "$sandbox\exchange"
    $computer.game = "$sandbox\game"
    $null = [System.IO.Directory]::CreateDirectory($computer.game)
    $computer
}

function Remove-TestComputer {
    Remove-Sandbox
    Microsoft.PowerShell.Management\Remove-Item -LiteralPath $registryKey -Recurse -Force -ErrorAction SilentlyContinue
}

function Remove-Sandbox {
    # Retried: an open handle keeps a file for a moment after its deletion.
    foreach ($attempt in 1..20) {
        if (-not [System.IO.Directory]::Exists($sandbox)) { return }
        foreach ($file in [System.IO.Directory]::GetFiles($sandbox, '*', 'AllDirectories')) {
            [System.IO.File]::SetAttributes($file, 'Normal')
        }
        try {
            [System.IO.Directory]::Delete($sandbox, $true)
        } catch {
            if ($attempt -eq 20) { throw }
            Start-Sleep -Milliseconds 100
        }
    }
}

# --- calls of a script -----------------------------------------------------------------------------------------------

function New-ScriptRunspace([string[]] $Without = @()) {
    # A runspace with all stand-ins except some. No other module is loaded by a call.
    $runspace = [runspacefactory]::CreateRunspace()
    $runspace.Open()
    $shell = [powershell]::Create()
    $shell.Runspace = $runspace
    $null = $shell.AddScript('
        param($modules, $real)
        foreach ($one in $real) { Import-Module $one -ErrorAction SilentlyContinue }
        foreach ($one in $modules) { Import-Module $one -Force -DisableNameChecking }
        $global:PSModuleAutoLoadingPreference = "None"
    ')
    $null = $shell.AddArgument(
        @($standIns | Where-Object { [System.IO.Path]::GetFileNameWithoutExtension($_) -notin $Without }))
    $null = $shell.AddArgument(@('Microsoft.PowerShell.Utility', 'Microsoft.PowerShell.Management',
        'Microsoft.PowerShell.Security', 'Microsoft.PowerShell.Archive', 'Microsoft.PowerShell.ThreadJob', 'ThreadJob'))
    $null = $shell.Invoke()
    $shell.Commands.Clear()
    $null = $shell.AddScript('Get-Command -Name "Enable-PSRemoting", "Set-ItemProperty", "New-Item", "New-LocalUser" |
        ForEach-Object { "$($_.CommandType)" }')
    if (@($shell.Invoke() | Where-Object { "$_" -eq 'Function' }).Count -ne 4) {
        throw 'stand-ins are missing: the script would change this computer'
    }
    $runspace
}

$runspaces = @{ '' = New-ScriptRunspace }

function Get-ScriptPath([string] $Script) {
    if (Test-Path -LiteralPath $Script) { return $Script }
    if ($Script -clike '*-agent') { "$installer\$Script.ps1" } else { "$scripts\$Script.ps1" }
}

function Invoke-Script(
    [string] $Script, [hashtable] $Parameters, [switch] $AsFile, [string] $Without = '', [hashtable] $Replace = @{}
) {
    # At a prompt a script's $ErrorActionPreference is its own. With powershell.exe -File it is the global one, which
    # functions of modules read as well. $Replace changes text of the script, $Without leaves a stand-in out.
    $path = Get-ScriptPath $Script
    if ($Replace.Count -gt 0) {
        $text = [System.IO.File]::ReadAllText($path)
        foreach ($old in $Replace.Keys) {
            if (-not $text.Contains($old)) { throw "not in the script: $old" }
            $text = $text.Replace($old, $Replace[$old])
        }
        $path = "$sandbox\changed\$([System.IO.Path]::GetFileName($path))"
        $null = [System.IO.Directory]::CreateDirectory("$sandbox\changed")
        [System.IO.File]::WriteAllText($path, $text)
    }
    if (-not $runspaces.ContainsKey($Without)) { $runspaces[$Without] = New-ScriptRunspace $Without }
    $preference = if ($AsFile) { 'Stop' } else { 'Continue' }
    $first = [powershell]::Create()
    $first.Runspace = $runspaces[$Without]
    $null = $first.AddScript('param($global) $global:ErrorActionPreference = $global; $global:LASTEXITCODE = 0').
        AddArgument($preference).Invoke()
    $shell = [powershell]::Create()
    $shell.Runspace = $runspaces[$Without]
    $null = $shell.AddCommand($path).AddParameters($Parameters)
    $output = [System.Management.Automation.PSDataCollection[psobject]]::new()
    $answer = @{ ok = $true; id = ''; message = ''; json = $null }
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    try { $null = $shell.Invoke($null, $output) } catch {
        $cause = $_.Exception
        while ($null -ne $cause.InnerException -and $cause -isnot [System.Management.Automation.RuntimeException]) {
            $cause = $cause.InnerException
        }
        $isInvocation = $cause -is [System.Management.Automation.MethodInvocationException]
        if ($isInvocation -and $null -ne $cause.InnerException) { $cause = $cause.InnerException }
        $answer.ok = $false
        $answer.message = $cause.Message
        if ($cause -is [System.Management.Automation.RuntimeException]) {
            $answer.id = "$($cause.ErrorRecord.FullyQualifiedErrorId)"
        }
    }
    $answer.seconds = $watch.Elapsed.TotalSeconds
    $answer.output = @($output | ForEach-Object { "$_" })
    $answer.errors = @($shell.Streams.Error | ForEach-Object { $_.Exception.Message })
    $answer.warnings = @($shell.Streams.Warning | ForEach-Object { "$_" })
    if ($answer.output.Count -gt 0) {
        try { $answer.json = $answer.output[-1] | ConvertFrom-Json } catch { $answer.json = $null }
    }
    $answer
}

# The account is no administrator.
$noAdministrator = @{ '$user.IsInRole([System.Security.Principal.WindowsBuiltInRole]::Administrator)' = '$false' }

function Invoke-Bootstrap([string] $Script, [hashtable] $Parameters, [string] $Setup = '') {
    # As hyperv_ops/hyperv/script_call.py does it: a process whose command is the bootstrap, which reads script and parameters from
    # standard input. Code before the bootstrap loads the stand-ins and sets what the test needs.
    $code = @([System.IO.File]::ReadAllLines("$scripts\bootstrap.ps1") |
        Where-Object { -not $_.StartsWith('#') }) -join "`n"
    $before = "foreach (`$one in (Get-ChildItem '$PSScriptRoot\Modules\*\*.psd1')) { " +
        "Import-Module `$one.FullName -Force -DisableNameChecking -Global }; `$computer = New-FakeComputer; $Setup"
    $encoded = [System.Convert]::ToBase64String([System.Text.Encoding]::Unicode.GetBytes("$before`n$code"))
    # A script from text has no folder to load Common.ps1 from.
    $common = [System.IO.File]::ReadAllText("$scripts\Common.ps1")
    $text = [System.IO.File]::ReadAllText("$scripts\$Script.ps1").Replace('. "$PSScriptRoot\Common.ps1"', $common)
    $job = ConvertTo-Json -Compress -Depth 5 -InputObject @{ script = $text; parameters = $Parameters }
    $line = [System.Convert]::ToBase64String([System.Text.Encoding]::UTF8.GetBytes($job)) + "`r`n"
    $sent = [System.Text.Encoding]::ASCII.GetBytes($line)
    $start = [System.Diagnostics.ProcessStartInfo]::new(
        [System.Diagnostics.Process]::GetCurrentProcess().MainModule.FileName,
        "-NoProfile -NonInteractive -EncodedCommand $encoded")
    $start.UseShellExecute = $false
    $start.RedirectStandardInput = $true
    $start.RedirectStandardOutput = $true
    $start.RedirectStandardError = $true
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    $process = [System.Diagnostics.Process]::Start($start)
    $out = $process.StandardOutput.ReadToEndAsync()
    $problems = $process.StandardError.ReadToEndAsync()
    $process.StandardInput.BaseStream.Write($sent, 0, $sent.Length)
    $process.StandardInput.Close()
    if (-not $process.WaitForExit(120000)) {
        $process.Kill()
        throw 'the process did not end'
    }
    $key = "HKCU:\Software\FarmTests-$($process.Id)"
    Microsoft.PowerShell.Management\Remove-Item -LiteralPath $key -Recurse -Force -ErrorAction SilentlyContinue
    $lines = @($out.Result -split "`r?`n" | Where-Object { $_ -ne '' })
    $replies = @($lines | Where-Object { $_.StartsWith('reply:') })
    if ($replies.Count -ne 1) {
        throw "$($replies.Count) replies; output: $(Format-Short ($lines -join ' | ')) $(Format-Short $problems.Result)"
    }
    $text = [System.Text.Encoding]::UTF8.GetString([System.Convert]::FromBase64String($replies[0].Substring(6).Trim()))
    $reply = $text | ConvertFrom-Json
    @{
        ok = $reply.ok; reply = $reply; code = $process.ExitCode; seconds = $watch.Elapsed.TotalSeconds
        output = @($lines | Where-Object { -not $_.StartsWith('reply:') })
    }
}

# --- assertions ------------------------------------------------------------------------------------------------------

function Assert-True([bool] $Met, [string] $Complaint) { $Met | Should -BeTrue -Because $Complaint }

function Format-Short([string] $Text) {
    $line = $Text -replace '\s+', ' '
    if ($line.Length -gt 260) { $line.Substring(0, 260) + '...' } else { $line }
}

function Assert-Succeeded($Answer) {
    Assert-True $Answer.ok "stopped with '$(Format-Short $Answer.message)' [$($Answer.id)]"
    Assert-True ($Answer.errors.Count -eq 0) "continued after: $(Format-Short ($Answer.errors -join ' | '))"
    if ($Answer.ok) {
        Assert-True ($Answer.output.Count -eq 1 -and $null -ne $Answer.json) (
            "the output is not one line of JSON: $(Format-Short ($Answer.output -join ' | '))")
    }
}

function Assert-Refused($Answer, [string] $Id, [string] $Words = '') {
    # $Words is a pattern for what the message names, a value or a text of a stand-in: the wording itself may change.
    if ($Answer.ok) {
        Assert-True $false ("not refused; output: $(Format-Short ($Answer.output -join ' | ')); " +
            "errors: $(Format-Short ($Answer.errors -join ' | '))")
        return
    }
    Assert-True ($Answer.id -like "$Id*") "refused as '$($Answer.id)', not as '$Id': $(Format-Short $Answer.message)"
    if ($Words -ne '') {
        Assert-True ($Answer.message -match $Words) `
            "the message does not match /$Words/: $(Format-Short $Answer.message)"
    }
}

function Assert-Unchanged($Computer, [string] $Before) {
    Assert-True ((Get-FakeComputerText) -ceq $Before) 'the state of the computer changed'
    Assert-True ($Computer.changes.Count -eq 0) "changes: $($Computer.changes -join ', ')"
}

function Assert-EachRefused([string] $Script, [hashtable] $Good, [object[]] $Bad) {
    # One call for each bad value. The message names the parameter, and nothing changes.
    $computer = Get-FakeComputer
    $before = Get-FakeComputerText
    foreach ($pair in $Bad) {
        $parameters = $Good.Clone()
        $parameters[$pair[0]] = $pair[1]
        $answer = Invoke-Script $Script $parameters
        $value = "$($pair[1])" -replace "`n", '\n'
        $shown = "-$($pair[0]) '$value'"
        if ($answer.ok) {
            Assert-True $false "$shown is accepted"
            continue
        }
        $known = $answer.id -like '*ParameterArgument*' -or $answer.id -like '*CannotConvertArgument*'
        Assert-True $known "$shown is refused as $($answer.id): $(Format-Short $answer.message)"
        Assert-True ($answer.message -match $pair[0]) "${shown}: not named: $(Format-Short $answer.message)"
    }
    Assert-Unchanged $computer $before
}

function Merge-Parameters([hashtable] $Default, [hashtable] $More) {
    foreach ($name in $More.Keys) { $Default[$name] = $More[$name] }
    $Default
}

function ConvertTo-Secret([string] $Plain) { [System.Net.NetworkCredential]::new('', $Plain).SecurePassword }

function Get-RegistryText([string] $Key, [string] $Name) {
    "$((Get-ItemProperty -LiteralPath $Key -Name $Name -ErrorAction SilentlyContinue).$Name)"
}

function Get-FolderRights([string] $Path, [string] $Account) {
    $sid = @((Get-FakeComputer).users | Where-Object { $_.Name -eq $Account })[0].SID
    $rules = (Get-Acl -LiteralPath $Path).GetAccessRules($true, $true, [System.Security.Principal.SecurityIdentifier])
    @($rules | Where-Object { "$($_.IdentityReference)" -eq $sid } |
        ForEach-Object { "$($_.FileSystemRights)" }) -join ' + '
}

function Add-SecondUser($Computer) {
    # The user `second`, who never logged on.
    $null = $Computer.users.Add(@{
        Name = 'second'; SID = 'S-1-5-21-11-22-33-1009'; Enabled = $true; Password = 'x'; NeverExpires = $true
    })
}

function Set-ProfileFolder {
    # The player has logged on before: the profile is in the sandbox.
    $null = New-Item -Path $profileKey -Force
    Set-ItemProperty -LiteralPath $profileKey -Name ProfileImagePath -Value "$sandbox\profile" -Type ExpandString
}

# --- Initialize-FarmTemplate -----------------------------------------------------------------------------------------

function New-Program([string] $Folder) {
    $null = [System.IO.Directory]::CreateDirectory($Folder)
    [System.IO.File]::WriteAllText("$Folder\pythonw.exe", 'x')
    "$Folder\pythonw.exe"
}

function New-InitializeParameters($Computer, [hashtable] $More = @{}) {
    Merge-Parameters @{
        Player = 'player'; PlayerPassword = (ConvertTo-Secret $playerPassword); SharePassword = (ConvertTo-Secret 's')
        GameFolder = $Computer.game; ShareFolder = $Computer.share; AgentProgram = (New-Program "$sandbox\Python")
        AgentArguments = '-m inbox_agent --share C:\exchange -- python play.py {genome}'
    } $More
}

function Invoke-Initialize(
    [hashtable] $More = @{}, [switch] $AsFile, [string] $Without = '', [hashtable] $Replace = @{}
) {
    Invoke-Script 'Initialize-FarmTemplate' (New-InitializeParameters (Get-FakeComputer) $More) -AsFile:$AsFile `
        -Without $Without -Replace $Replace
}

function Assert-Prepared($Computer) {
    # What the script promises and no other test covers.
    $logon = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon'
    $updates = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU'
    $subnet = '192.168.77.0/24'
    Assert-True ((Get-RegistryText $logon 'AutoAdminLogon') -eq '1') 'no automatic logon'
    Assert-True ((Get-RegistryText $logon 'DefaultPassword') -ceq $playerPassword) 'the password of the logon differs'
    Assert-True ((Get-RegistryText $logon 'DefaultDomainName') -eq '.') 'the domain of the logon differs'
    Assert-True ((Get-RegistryText $updates 'NoAutoUpdate') -eq '1') 'updates are on'
    $saver = Get-RegistryText "$playerHive\Control Panel\Desktop" 'ScreenSaveActive'
    Assert-True ($saver -eq '0') 'the screen saver is on'
    Assert-True ($Computer.shares.Count -eq 1) 'the share is missing'
    Assert-True ($Computer.shares[0].EncryptData -and $Computer.shares[0].CachingMode -eq 'None') 'the share differs'
    $public = @($Computer.profiles | Where-Object { $_.NetworkCategory -ne 'Private' })
    Assert-True ($public.Count -eq 0) 'a network is public'
    $ours = @($Computer.firewall | Where-Object { $_.Name -in 'farm-smb', 'farm-winrm' })
    $open = @($ours | Where-Object { "$($_.RemoteAddress)" -eq $subnet -and $_.Enabled -eq 'True' })
    Assert-True ($open.Count -eq 2) 'the firewall rules are missing'
    $ports = @($Computer.firewall | Where-Object { "$($_.LocalPort)" -in '445', '5985' })
    $others = @($ports | Where-Object { "$($_.RemoteAddress)" -ne $subnet })
    Assert-True ($others.Count -eq 0) 'a firewall rule is open to others'
}

$policies = 'HKLM:\SOFTWARE\Policies\Microsoft'
$playerPolicies = "$playerHive\Software\Policies\Microsoft\Windows"
$accessibility = "$playerHive\Control Panel\Accessibility"
$machineReports = 'HKLM:\SOFTWARE\Microsoft\Windows\Windows Error Reporting'
$playerReports = "$playerHive\Software\Microsoft\Windows\Windows Error Reporting"
$logonPolicies = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System'
$engagement = "$playerHive\Software\Microsoft\Windows\CurrentVersion\UserProfileEngagement"
$desktopSettings = @(
    # item of Test-FarmTemplate, key, name, value
    , @('error dialogs', $machineReports, 'DontShowUI', 1)
    , @('error dialogs', $machineReports, 'ForceQueue', 1)
    , @('error dialogs', $playerReports, 'DontShowUI', 1)
    , @('hard error dialogs', 'HKLM:\SYSTEM\CurrentControlSet\Control\Windows', 'ErrorMode', 2)
    , @('first-run pages', "$policies\Windows\OOBE", 'DisablePrivacyExperience', 1)
    , @('first-run pages', $logonPolicies, 'EnableFirstLogonAnimation', 0)
    , @('first-run pages', $engagement, 'ScoobeSystemSettingEnabled', 0)
    , @('notifications', "$playerPolicies\CurrentVersion\PushNotifications", 'NoToastApplicationNotification', 1)
    , @('notifications', "$playerPolicies\Explorer", 'DisableNotificationCenter', 1)
    , @('suggestions', "$policies\Windows\CloudContent", 'DisableWindowsConsumerFeatures', 1)
    , @('suggestions', "$policies\Windows\CloudContent", 'DisableSoftLanding', 1)
    , @('onedrive', "$policies\Windows\OneDrive", 'DisableFileSyncNGSC', 1)
    , @('store updates', "$policies\WindowsStore", 'AutoDownload', 2)
    , @('lock screen', "$policies\Windows\Personalization", 'NoLockScreen', 1)
    , @('focus', "$playerHive\Control Panel\Desktop", 'ForegroundLockTimeout', 0)
    , @('scaling', "$playerHive\Control Panel\Desktop", 'LogPixels', 96)
    , @('scaling', "$playerHive\Control Panel\Desktop", 'Win8DpiScaling', 1)
    , @('accessibility keys', "$accessibility\StickyKeys", 'Flags', '506')
    , @('accessibility keys', "$accessibility\Keyboard Response", 'Flags', '122')
    , @('accessibility keys', "$accessibility\ToggleKeys", 'Flags', '58')
    , @('accessibility keys', "$accessibility\MouseKeys", 'Flags', '58')
    , @('accessibility keys', "$accessibility\HighContrast", 'Flags', '122')
    , @('screen saver', "$playerHive\Control Panel\Desktop", 'ScreenSaveActive', '0')
)
$aeDebug = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\AeDebug',
    'HKLM:\SOFTWARE\WOW6432Node\Microsoft\Windows NT\CurrentVersion\AeDebug'
$oneDriveRun = "$playerHive\Software\Microsoft\Windows\CurrentVersion\Run"

function Set-Debugger {
    foreach ($key in $aeDebug) {
        $null = New-Item -Path $key -Force
        Set-ItemProperty -LiteralPath $key -Name Debugger -Value 'vsjitdebugger.exe -p %ld -e %ld' -Type String
        Set-ItemProperty -LiteralPath $key -Name Auto -Value '1' -Type String
    }
}

# --- Test-FarmTemplate -----------------------------------------------------------------------------------------------

$itemCount = 38  # of Test-FarmTemplate

function Initialize-Template($Computer) {
    # A prepared template whose agent runs.
    $done = Invoke-Initialize
    if (-not $done.ok) { throw "not initialized: $($done.message)" }
    $Computer.cim.Win32_VideoController += @{
        Name = 'NVIDIA'; PNPDeviceID = 'PCI\VEN_1414&DEV_008E'; ConfigManagerErrorCode = [uint32] 0
        CurrentHorizontalResolution = $null; CurrentVerticalResolution = $null
    }
    $Computer.tasks[0].State = 'Running'
    Write-Heartbeat $Computer
}

function Write-Heartbeat($Computer, [string] $Text = '{"session":1,"versions":{"agent":"1.2"}}') {
    [System.IO.File]::WriteAllText("$($Computer.share)\status\agent.json", $Text)
}

function New-TestParameters($Computer, [hashtable] $More = @{}) {
    Merge-Parameters @{
        Player = 'player'; GameFolder = $Computer.game; ShareFolder = $Computer.share; FreeGb = 1
    } $More
}

function Invoke-Test(
    [hashtable] $More = @{}, [switch] $AsFile, [string] $Without = '', [hashtable] $Replace = @{}
) {
    Invoke-Script 'Test-FarmTemplate' (New-TestParameters (Get-FakeComputer) $More) -AsFile:$AsFile -Without $Without `
        -Replace $Replace
}

function Get-FailedItem($Answer) {
    @($Answer.json | Where-Object { -not $_.ok } | ForEach-Object { "$($_.item): $($_.found)" })
}

function Get-CheckItem($Answer, [string] $Name) { @($Answer.json | Where-Object { $_.item -eq $Name })[0] }

# --- Complete-FarmTemplate -------------------------------------------------------------------------------------------

function New-CompleteParameters([hashtable] $More = @{}) {
    Merge-Parameters @{ Player = 'player'; ShareFolder = (Get-FakeComputer).share; TimeoutSeconds = 2 } $More
}

function Invoke-Complete(
    [hashtable] $More = @{}, [switch] $AsFile, [string] $Without = '', [hashtable] $Replace = @{}
) {
    Invoke-Script 'Complete-FarmTemplate' (New-CompleteParameters $More) -AsFile:$AsFile -Without $Without -Replace `
        $Replace
}

function Initialize-UsedTemplate($Computer) {
    # A template whose agent runs, has evaluated a genome and has its state folder.
    Initialize-Template $Computer
    Set-ProfileFolder
    $local = "$sandbox\profile\AppData\Local"
    $share = $Computer.share
    $attempt = 'g0001-0001-t1-a1-4kq7zt0m0003'
    foreach ($folder in "$local\inbox-agent\0123456789abcdef\scratch", "$local\other", "$share\outbox\$attempt.files") {
        $null = [System.IO.Directory]::CreateDirectory($folder)
    }
    foreach ($file in "$local\inbox-agent\0123456789abcdef\lock", "$share\status\agent.json.new",
        "$share\inbox\1.host.json", "$share\inbox\tmp\x", "$share\outbox\tmp\x",
        "$share\outbox\$attempt.files\replay.txt", "$share\outbox\$attempt.result.json",
        "$share\inbox\$attempt.start.json") { [System.IO.File]::WriteAllText($file, '{}') }
    [System.IO.File]::SetAttributes("$share\inbox\tmp\x", 'ReadOnly, Hidden')
    $Computer.changes.Clear()
}

# --- Set-FarmVMIdentity ----------------------------------------------------------------------------------------------

function New-IdentityParameters([hashtable] $More = @{}) {
    Merge-Parameters @{
        Name = 'vm-1'; Account = 'farm'; Secret = 'right'; Worker = 'worker-1'; ShareAccount = 'exchange'
        SharePassword = 'new'; Address = '192.168.77.11'; TimeoutSeconds = 5
    } $More
}

function Invoke-Identity(
    [hashtable] $More = @{}, [switch] $AsFile, [string] $Without = '', [hashtable] $Replace = @{}
) {
    Invoke-Script 'Set-FarmVMIdentity' (New-IdentityParameters $More) -AsFile:$AsFile -Without $Without -Replace `
        $Replace
}

function Add-ShareAccount($Computer) {
    $null = $Computer.users.Add(@{
        Name = 'exchange'; SID = 'S-1-5-21-11-22-33-1008'; Enabled = $true; Password = 'template'; NeverExpires = $true
    })
}

function Get-ManualAddress($Computer) {
    @($Computer.addresses | Where-Object { $_.PrefixOrigin -eq 'Manual' } |
        ForEach-Object { "$($_.IPAddress)/$($_.PrefixLength)" }) -join ' '
}

function Get-DefaultGateway($Computer) {
    @($Computer.routes | Where-Object { $_.DestinationPrefix -eq '0.0.0.0/0' } |
        ForEach-Object { $_.NextHop }) -join ' '
}

$nameKey = 'HKLM:\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters'

function Set-ComputerName([string] $Now, [string] $Next) {
    Set-ItemProperty -LiteralPath $nameKey -Name Hostname -Value $Now -Type String
    Set-ItemProperty -LiteralPath $nameKey -Name 'NV Hostname' -Value $Next -Type String
}

function Get-NextComputerName { Get-RegistryText $nameKey 'NV Hostname' }

# --- Restart-FarmVMAgent ---------------------------------------------------------------------------------------------

function New-RestartParameters([hashtable] $More = @{}) {
    Merge-Parameters @{
        Name = 'vm-1'; Account = 'farm'; Secret = 'right'; Task = 'inbox-agent'; TimeoutSeconds = 20
    } $More
}

function Invoke-Restart(
    [hashtable] $More = @{}, [switch] $AsFile, [string] $Without = '', [hashtable] $Replace = @{}
) {
    Invoke-Script 'Restart-FarmVMAgent' (New-RestartParameters $More) -AsFile:$AsFile -Without $Without -Replace `
        $Replace
}

function Add-AgentTask($Computer, [string] $State = 'Running', [string] $Name = 'inbox-agent') {
    $null = $Computer.tasks.Add([pscustomobject]@{
        TaskName = $Name; TaskPath = '\'; State = $State; stopLooks = 0
        Principal = [pscustomobject]@{ UserId = $playerSid; LogonType = 'Interactive'; RunLevel = 'Limited' }
    })
}

# --- install-agent and uninstall-agent -------------------------------------------------------------------------------

function New-Bundle([string] $Name = 'bundle') {
    # The installer in a folder of its own, with a zip of a Python that has no more than its names.
    $folder = "$sandbox\$Name"
    $null = [System.IO.Directory]::CreateDirectory("$folder\wheels")
    foreach ($one in 'install-agent.ps1', 'uninstall-agent.ps1', 'install.py', 'README.txt') {
        [System.IO.File]::Copy("$installer\$one", "$folder\$one", $true)
    }
    $inside = "$sandbox\inside"
    $null = [System.IO.Directory]::CreateDirectory($inside)
    [System.IO.File]::WriteAllText("$inside\python.exe", 'x')
    [System.IO.File]::WriteAllText("$inside\python312._pth", '.')
    Add-Type -AssemblyName System.IO.Compression.FileSystem
    [System.IO.Compression.ZipFile]::CreateFromDirectory($inside, "$folder\python-embedded.zip")
    $folder
}

function Set-PythonAnswer($Computer, [string] $Arguments = '-m inbox_agent --share x') {
    # What install.py answers after an installation.
    $answer = @{ program = 'C:\farm\agent\python\pythonw.exe'; arguments = $Arguments }
    $Computer.python.lines = @((ConvertTo-Json -Compress -InputObject $answer))
    $Computer.python.exit = 0
}

function New-InstallParameters($Computer, [hashtable] $More = @{}) {
    Merge-Parameters @{
        Player = 'player'; ShareFolder = $Computer.share; GameFolder = $Computer.game; Function = 'my_game:play'
        ProgramFolder = "$sandbox\farm\agent"; PythonFolder = "$sandbox\inside"
    } $More
}

function Invoke-Install(
    [string] $Bundle, [hashtable] $More = @{}, [switch] $AsFile, [hashtable] $Replace = @{}
) {
    $parameters = New-InstallParameters (Get-FakeComputer) $More
    Invoke-Script "$Bundle\install-agent.ps1" $parameters -AsFile:$AsFile -Replace $Replace
}

function Get-InstallText($Computer) {
    # The last argument of install.py: Base64 of JSON.
    [System.Text.Encoding]::UTF8.GetString([System.Convert]::FromBase64String($Computer.python.args[-1]))
}

function Get-InstallRequest($Computer) { Get-InstallText $Computer | ConvertFrom-Json }

function New-UninstallParameters($Computer, [hashtable] $More = @{}) {
    Merge-Parameters @{
        Player = 'player'; ProgramFolder = "$sandbox\farm\agent"; ShareFolder = $Computer.share
    } $More
}

function Invoke-Uninstall([string] $Bundle, [hashtable] $More = @{}, [switch] $AsFile) {
    Invoke-Script "$Bundle\uninstall-agent.ps1" (New-UninstallParameters (Get-FakeComputer) $More) -AsFile:$AsFile
}

function Install-Agent($Computer) {
    # An agent that was installed and runs; the answer is the folder of its bundle.
    Set-PythonAnswer $Computer
    $bundle = New-Bundle
    $answer = Invoke-Install $bundle
    if (-not $answer.ok) { throw "not installed: $($answer.message)" }
    [System.IO.File]::WriteAllText("$sandbox\farm\agent\agent.toml", 'x')
    foreach ($one in 'inbox', 'outbox', 'status') {
        $null = [System.IO.Directory]::CreateDirectory("$($Computer.share)\$one")
    }
    Set-ProfileFolder
    $null = [System.IO.Directory]::CreateDirectory("$sandbox\profile\AppData\Local\inbox-agent")
    $Computer.tasks[0].State = 'Running'
    $Computer.changes.Clear()
    $bundle
}
