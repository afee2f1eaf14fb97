<#
.SYNOPSIS
Checks each item of docs/template-vm.md by itself. Run it inside the guest, as administrator.

.DESCRIPTION
Answers with a JSON array of {item, ok, found, cure}. A check that fails, for whatever reason, hides no other. Run it
while the player is logged on at the console and the agent runs.

.PARAMETER Player
The user who is logged on at the console and plays.

.PARAMETER ShareAccount
The local account by which the host comes to the share.

.PARAMETER Share
The name of the share.

.PARAMETER ShareFolder
The folder that is shared.

.PARAMETER GameFolder
The folder of the game.

.PARAMETER Subnet
The internal network.

.PARAMETER Task
The agent's logon task.

.PARAMETER Width
Pixels across that the game needs of the desktop.

.PARAMETER Height
Pixels down that the game needs of the desktop.

.PARAMETER FreeGb
Free space that Windows needs on its drive.

.EXAMPLE
.\Test-FarmTemplate.ps1 -Player player -GameFolder C:\game
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,19}\z')]
    [string] $Player,

    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,19}\z')]
    [string] $ShareAccount = 'exchange',

    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z')]
    [string] $Share = 'exchange',

    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]+\z')]
    [string] $ShareFolder = 'C:\exchange',

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]+\z')]
    [string] $GameFolder,

    [ValidatePattern('^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}/([89]|[12][0-9]|3[0-2])\z')]
    [string] $Subnet = '192.168.77.0/24',

    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9 _-]{0,62}\z')]
    [string] $Task = 'inbox-agent',

    [ValidateRange(640, 7680)]
    [int] $Width = 1024,

    [ValidateRange(480, 4320)]
    [int] $Height = 720,

    [ValidateRange(1, 4096)]
    [int] $FreeGb = 10
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
# Commands that are functions of modules do not see this script's $ErrorActionPreference; this reaches them.
$PSDefaultParameterValues = @{ '*:ErrorAction' = 'Stop' }

function Test-Item([string] $Item, [string] $Cure, [scriptblock] $Look) {
    # What a look gives first is whether all is well, what it gives then is what it saw.
    $ok = $false
    try {
        $seen = @(& $Look)
        $ok = [bool] $seen[0]
        $found = "$($seen[1])"
    } catch {
        $found = "could not be checked: $($_.Exception.Message)"
    }
    [pscustomobject]@{ item = $Item; ok = $ok; found = $found; cure = $(if ($ok) { '' } else { $Cure }) }
}

function Get-Setting([string] $Key, [string] $Name) {
    # A value that is not there is empty.
    $there = Get-ItemProperty -LiteralPath $Key -Name $Name -ErrorAction SilentlyContinue
    if ($null -ne $there) { $there.$Name } else { '' }
}

function Get-Sid([string] $Account) {
    "$((Get-LocalUser -Name $Account).SID)"
}

function Get-OpenPort([string] $Port) {
    # From where each allowing rule lets somebody reach the port.
    NetSecurity\Get-NetFirewallPortFilter -Protocol TCP | Where-Object { "$($_.LocalPort)" -eq $Port } |
        NetSecurity\Get-NetFirewallRule | Where-Object {
            "$($_.Direction)" -eq 'Inbound' -and "$($_.Action)" -eq 'Allow' -and "$($_.Enabled)" -eq 'True'
        } | NetSecurity\Get-NetFirewallAddressFilter | ForEach-Object { "$($_.RemoteAddress)" }
}

function Get-PowerTimeout([string] $Group, [string] $Setting) {
    # The last two numbers are those for mains and battery; the words before them are translated.
    $lines = (powercfg.exe /query SCHEME_CURRENT $Group $Setting) -join ' '
    $numbers = [regex]::Matches($lines, '0x[0-9a-fA-F]{8}')
    [System.Convert]::ToInt64($numbers[$numbers.Count - 2].Value, 16)
}

function Test-Right([string] $Path, [string] $Account, [string] $Right) {
    # Whether an account is granted a right by its own name; groups do not count.
    $wanted = [System.Security.AccessControl.FileSystemRights] $Right
    $sid = Get-Sid $Account
    $kind = [System.Security.Principal.SecurityIdentifier]
    $granted = (Get-Acl -LiteralPath $Path).GetAccessRules($true, $true, $kind) | Where-Object {
        "$($_.IdentityReference)" -eq $sid -and "$($_.AccessControlType)" -eq 'Allow' -and
        ($_.FileSystemRights -band $wanted) -eq $wanted
    }
    @($granted).Count -gt 0
}

function ConvertTo-Mask([int] $Prefix) {
    # As the firewall tells a network: 24 is 255.255.255.0.
    $bits = ('1' * $Prefix).PadRight(32, '0')
    (0, 8, 16, 24 | ForEach-Object { [System.Convert]::ToInt32($bits.Substring($_, 8), 2) }) -join '.'
}

$network, $prefix = $Subnet -split '/'
$only = @($Subnet, "$network/$(ConvertTo-Mask ([int] $prefix))")
$heartbeat = "$ShareFolder\status\agent.json"

$answers = @(
    Test-Item 'windows edition' 'install Windows 10 or 11, Pro or Enterprise, best LTSC' {
        $system = CimCmdlets\Get-CimInstance -ClassName Win32_OperatingSystem
        $system.ProductType -eq 1 -and [int] $system.BuildNumber -ge 17763
        "$($system.Caption), build $($system.BuildNumber)"
    }
    Test-Item 'generation 2' 'make the machine again as generation 2; it cannot be changed' {
        # On a machine with a BIOS this throws; on one with UEFI it tells of Secure Boot, on or off.
        $secure = SecureBoot\Confirm-SecureBootUEFI
        $true
        "UEFI, Secure Boot: $secure"
    }
    Test-Item 'integration services' 'on the host: enable all of Get-VMIntegrationService for the machine' {
        $names = 'vmicheartbeat', 'vmicshutdown', 'vmickvpexchange', 'vmicvmsession'
        $idle = @(Get-Service -Name $names | Where-Object { "$($_.Status)" -ne 'Running' } | ForEach-Object { $_.Name })
        $idle.Count -eq 0
        if ($idle.Count -eq 0) { 'running' } else { "not running: $idle" }
    }
    Test-Item 'guest services' 'on the host: enable all of Get-VMIntegrationService for the machine' {
        $service = Get-Service -Name vmicguestinterface
        "$($service.Status)" -eq 'Running'
        "$($service.Status)"
    }
    Test-Item 'network profile' 'Initialize-FarmTemplate, then restart' {
        $public = @(NetConnection\Get-NetConnectionProfile | Where-Object { "$($_.NetworkCategory)" -eq 'Public' })
        $public.Count -eq 0
        if ($public.Count -eq 0) { 'private' } else { "public: $($public[0].InterfaceAlias)" }
    }
    Test-Item 'firewall smb' "Initialize-FarmTemplate: allow TCP 445 from $Subnet and from nowhere else" {
        $open = @(Get-OpenPort '445')
        $open.Count -gt 0 -and @($open | Where-Object { $_ -notin $only }).Count -eq 0
        if ($open.Count -gt 0) { "open to $open" } else { 'closed' }
    }
    Test-Item 'firewall winrm' "Initialize-FarmTemplate: allow TCP 5985 from $Subnet and from nowhere else" {
        $open = @(Get-OpenPort '5985')
        $open.Count -gt 0 -and @($open | Where-Object { $_ -notin $only }).Count -eq 0
        if ($open.Count -gt 0) { "open to $open" } else { 'closed' }
    }
    Test-Item 'automatic logon' 'Initialize-FarmTemplate' {
        $winlogon = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon'
        $on = "$(Get-Setting $winlogon 'AutoAdminLogon')"
        $who = "$(Get-Setting $winlogon 'DefaultUserName')"
        $on -eq '1' -and $who -eq $Player
        "AutoAdminLogon '$on' of '$who'"
    }
    Test-Item 'screen saver' "Initialize-FarmTemplate while $Player is logged on" {
        $hive = "Registry::HKEY_USERS\$(Get-Sid $Player)"
        if (-not (Test-Path -LiteralPath $hive)) { throw "$Player is not logged on" }
        $on = "$(Get-Setting "$hive\Control Panel\Desktop" 'ScreenSaveActive')"
        $on -eq '0'
        "ScreenSaveActive '$on'"
    }
    Test-Item 'sleep' 'Initialize-FarmTemplate' {
        $sleep = Get-PowerTimeout 'SUB_SLEEP' 'STANDBYIDLE'
        $screen = Get-PowerTimeout 'SUB_VIDEO' 'VIDEOIDLE'
        $sleep -eq 0 -and $screen -eq 0
        "sleeps after $sleep s, screen off after $screen s (0: never)"
    }
    Test-Item 'updates' 'Initialize-FarmTemplate' {
        $off = "$(Get-Setting 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU' 'NoAutoUpdate')"
        $off -eq '1'
        "NoAutoUpdate '$off'"
    }
    Test-Item 'defender' 'Initialize-FarmTemplate' {
        $excluded = @((Defender\Get-MpPreference).ExclusionPath)
        $missing = @($GameFolder, $ShareFolder | Where-Object { $_ -notin $excluded })
        $missing.Count -eq 0
        if ($missing.Count -eq 0) { 'game and share are excluded' } else { "not excluded: $missing" }
    }
    Test-Item 'activation' 'activate Windows in the template, before it is cloned' {
        $licence = @(CimCmdlets\Get-CimInstance -ClassName SoftwareLicensingProduct `
            -Filter "ApplicationID = '55c92734-d682-4d71-983e-d6ec3f16059f' AND PartialProductKey IS NOT NULL")
        @($licence | Where-Object { $_.LicenseStatus -eq 1 }).Count -gt 0
        "licence status $($licence | ForEach-Object { $_.LicenseStatus }) (1: licensed)"
    }
    Test-Item 'share' 'Initialize-FarmTemplate' {
        $there = SmbShare\Get-SmbShare -Name $Share
        $there.Path -eq $ShareFolder
        "$Share is $($there.Path)"
    }
    Test-Item 'share encryption' 'Initialize-FarmTemplate' {
        $there = SmbShare\Get-SmbShare -Name $Share
        $there.EncryptData
        "EncryptData $($there.EncryptData)"
    }
    Test-Item 'share account' 'Initialize-FarmTemplate' {
        $account = Get-LocalUser -Name $ShareAccount
        $access = @(SmbShare\Get-SmbShareAccess -Name $Share | Where-Object {
            $_.AccountName -eq "$env:COMPUTERNAME\$ShareAccount" -and "$($_.AccessRight)" -in 'Change', 'Full'
        })
        $account.Enabled -and $access.Count -gt 0
        "enabled: $($account.Enabled), may change: $($access.Count -gt 0)"
    }
    Test-Item 'folder rights' 'Initialize-FarmTemplate' {
        $wrong = @(
            if (-not (Test-Right "$ShareFolder\inbox" $ShareAccount 'Modify')) { "$ShareAccount may not change inbox" }
            foreach ($folder in 'outbox', 'status') {
                $path = "$ShareFolder\$folder"
                if (-not (Test-Right $path $ShareAccount 'ReadAndExecute')) { "$ShareAccount may not read $folder" }
                if (Test-Right $path $ShareAccount 'Modify') { "$ShareAccount may change $folder" }
                if (-not (Test-Right $path $Player 'Modify')) { "$Player may not change $folder" }
            }
            if (-not (Test-Right "$ShareFolder\inbox" $Player 'ReadAndExecute')) { "$Player may not read inbox" }
        )
        $wrong.Count -eq 0
        if ($wrong.Count -eq 0) { 'as in docs/smb.md' } else { $wrong -join ', ' }
    }
    Test-Item 'agent task' 'Initialize-FarmTemplate: at logon, interactive, limited; never a service' {
        $registered = ScheduledTasks\Get-ScheduledTask -TaskName $Task -TaskPath '\'
        $who = $registered.Principal
        $atLogon = @($registered.Triggers | Where-Object { $_.CimClass.CimClassName -eq 'MSFT_TaskLogonTrigger' })
        $atLogon.Count -gt 0 -and "$($who.LogonType)" -eq 'Interactive' -and "$($who.RunLevel)" -eq 'Limited' -and
            $registered.Settings.Enabled
        "logon triggers $($atLogon.Count), $($who.LogonType), $($who.RunLevel), state $($registered.State)"
    }
    Test-Item 'agent' "log on as $Player; if it stays silent, run the task's command by hand" {
        # The heartbeat is the agent's own answer; it comes every five seconds.
        $age = [int] ([datetime]::UtcNow - (Get-Item -LiteralPath $heartbeat).LastWriteTimeUtc).TotalSeconds
        $version = (Get-Content -LiteralPath $heartbeat -Raw -Encoding UTF8 | ConvertFrom-Json).versions.agent
        $age -le 30 -and "$version" -ne ''
        "version $version, heartbeat $age s old"
    }
    Test-Item 'console session' "let $Player log on at the console, not through remote desktop" {
        $who = "$((CimCmdlets\Get-CimInstance -ClassName Win32_ComputerSystem).UserName)"
        $session = "$((Get-Content -LiteralPath $heartbeat -Raw -Encoding UTF8 | ConvertFrom-Json).session)"
        $who -eq "$env:COMPUTERNAME\$Player" -and $session -notin '', '0'
        "at the console: $who; the agent is in session $session"
    }
    Test-Item 'desktop' "on the host: Set-VMVideo; in the guest: a resolution of at least ${Width}x$Height" {
        $screen = @(CimCmdlets\Get-CimInstance -ClassName Win32_VideoController |
            Where-Object { $_.CurrentHorizontalResolution })
        @($screen | Where-Object {
            $_.CurrentHorizontalResolution -ge $Width -and $_.CurrentVerticalResolution -ge $Height
        }).Count -gt 0
        "$($screen | ForEach-Object { "$($_.CurrentHorizontalResolution)x$($_.CurrentVerticalResolution)" })"
    }
    Test-Item 'gpu' 'give the machine a GPU (docs/template-vm.md), or measure that the game is fast enough without' {
        $adapters = @(CimCmdlets\Get-CimInstance -ClassName Win32_VideoController)
        @($adapters | Where-Object {
            $_.PNPDeviceID -notlike 'VMBUS\*' -and $_.PNPDeviceID -notlike 'ROOT\*' -and $_.ConfigManagerErrorCode -eq 0
        }).Count -gt 0
        ($adapters | ForEach-Object { $_.Name }) -join ', '
    }
    Test-Item 'time service' 'on the host: enable time synchronisation of the machine' {
        $service = Get-Service -Name vmictimesync
        "$($service.Status)" -eq 'Running'
        "$($service.Status)"
    }
    Test-Item 'pending restart' 'restart, then check again' {
        $keys = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending',
            'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired'
        $pending = @($keys | Where-Object { Test-Path -LiteralPath $_ })
        $pending.Count -eq 0
        if ($pending.Count -eq 0) { 'none' } else { "$pending" }
    }
    Test-Item 'free disk' "free at least $FreeGb GB, or make the template's disk larger" {
        $free = [System.Math]::Round([System.IO.DriveInfo]::new("$env:SystemDrive\").AvailableFreeSpace / 1gb, 1)
        $free -ge $FreeGb
        "$free GB"
    }
)
ConvertTo-Json -Compress -Depth 4 -InputObject $answers
