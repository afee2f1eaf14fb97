<#
.SYNOPSIS
Prepares the Windows of the template. Run it by hand, as administrator, inside the template's machine.

.DESCRIPTION
Sets what docs/template-vm.md describes: power, screen saver, updates, network, firewall, WinRM, the share with its
account and rights, Defender, automatic logon and the agent's logon task. It may be run again after a change.

Log on once as the player before: the screen saver is a setting of that user, and there are no settings before.

Automatic logon is the documented one of Winlogon. It keeps the password of the player in the registry, where every
user of this machine can read it. So the player is an ordinary user with a password that is used nowhere else. The
alternative, Autologon of Sysinternals, hides the password from ordinary users, but not from administrators.

.PARAMETER Player
The ordinary user who is logged on at the console and plays. It has to exist.

.PARAMETER PlayerPassword
The password of that user.

.PARAMETER ShareAccount
The local account by which the host comes to the share. It is made if it does not exist.

.PARAMETER SharePassword
Its password; every clone gets one of its own later.

.PARAMETER Share
The name of the share.

.PARAMETER ShareFolder
The folder that is shared.

.PARAMETER GameFolder
The folder of the game, which Defender leaves alone as it does the share's.

.PARAMETER Subnet
The internal network; SMB and WinRM listen to nobody else.

.PARAMETER Task
The agent's logon task.

.PARAMETER AgentProgram
What the task starts: pythonw.exe, which opens no window on the desktop of the game. Left out: no task is made; that
is install-agent.ps1's to do, from a bundle.

.PARAMETER AgentArguments
The arguments of that program, as one line.

.EXAMPLE
.\Initialize-FarmTemplate.ps1 -Player player -PlayerPassword (Read-Host -AsSecureString 'player') `
    -SharePassword (Read-Host -AsSecureString 'share') -GameFolder C:\game -AgentProgram C:\Python\pythonw.exe `
    -AgentArguments '-m inbox_agent --share C:\exchange -- python play.py {genome} --seed {seed} --result {result}'
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,19}\z')]
    [string] $Player,

    [Parameter(Mandatory)]
    [securestring] $PlayerPassword,

    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9_-]{0,19}\z')]
    [string] $ShareAccount = 'exchange',

    [Parameter(Mandatory)]
    [securestring] $SharePassword,

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

    [ValidatePattern('^([A-Za-z]:\\[^*?"<>|\x00-\x1f]+\.exe)?\z')]
    [string] $AgentProgram = '',

    [string] $AgentArguments = ''
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
# Commands that are functions of modules do not see this script's $ErrorActionPreference; this reaches them.
$PSDefaultParameterValues = @{ '*:ErrorAction' = 'Stop' }

function Stop-Because([string] $Reason, [string] $Message) {
    throw [System.Management.Automation.ErrorRecord]::new(
        [System.InvalidOperationException]::new($Message), $Reason, 'NotSpecified', $null)
}

function Set-Setting([string] $Key, [string] $Name, $Value, [string] $Type = 'DWord') {
    if (-not (Test-Path -LiteralPath $Key)) { New-Item -Path $Key -Force | Out-Null }
    Set-ItemProperty -LiteralPath $Key -Name $Name -Value $Value -Type $Type
}

function Assert-Done([string] $What) {
    if ($LASTEXITCODE -ne 0) {
        Stop-Because 'BadTemplate' "${What}: exit code $LASTEXITCODE; run it by hand to see why"
    }
}

function Register-AgentTask([string] $Task, [string] $Sid, [string] $Program, [string] $Arguments, [string] $Folder) {
    # The user by id: a name would carry the template's computer name into the clones.
    $trigger = ScheduledTasks\New-ScheduledTaskTrigger -AtLogOn -User $Sid
    # Restart on failure covers an agent that could not be started; one that ended is missed within a minute by this.
    $trigger.Repetition = (ScheduledTasks\New-ScheduledTaskTrigger -Once -At ([datetime]::Today) `
        -RepetitionInterval ([timespan]::FromMinutes(1))).Repetition
    $principal = ScheduledTasks\New-ScheduledTaskPrincipal -UserId $Sid -LogonType Interactive -RunLevel Limited
    # Priority: the usual one of a task is below normal, for work in the background, and games would inherit it.
    $settings = ScheduledTasks\New-ScheduledTaskSettingsSet -Priority 4 -Hidden -MultipleInstances IgnoreNew `
        -RestartCount 999 -RestartInterval ([timespan]::FromMinutes(1)) -ExecutionTimeLimit ([timespan]::Zero) `
        -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
    $action = ScheduledTasks\New-ScheduledTaskAction -Execute $Program -Argument $Arguments -WorkingDirectory $Folder
    ScheduledTasks\Register-ScheduledTask -TaskName $Task -TaskPath '\' -Trigger $trigger -Principal $principal `
        -Settings $settings -Action $action -Force | Out-Null
}

$user = [System.Security.Principal.WindowsPrincipal]::new([System.Security.Principal.WindowsIdentity]::GetCurrent())
if (-not $user.IsInRole([System.Security.Principal.WindowsBuiltInRole]::Administrator)) {
    Stop-Because 'NotAllowed' "${env:COMPUTERNAME}: not an administrator; start PowerShell with Run as administrator"
}
if (@(Get-LocalUser | Where-Object { $_.Name -eq $Player }).Count -eq 0) {
    Stop-Because 'BadTemplate' "${Player}: no such user; New-LocalUser makes it, then log on with it once"
}
$playerSid = "$((Get-LocalUser -Name $Player).SID)"
$left = @()

if ($PSCmdlet.ShouldProcess('power', 'never sleep, never turn off the screen')) {
    powercfg.exe /setactive SCHEME_MIN  # documented alias of "High performance"
    Assert-Done 'powercfg /setactive SCHEME_MIN'
    foreach ($setting in 'standby-timeout-ac', 'standby-timeout-dc', 'monitor-timeout-ac', 'monitor-timeout-dc') {
        powercfg.exe /change $setting 0
        Assert-Done "powercfg /change $setting 0"
    }
    powercfg.exe /hibernate off  # fails where the firmware cannot hibernate, as in most virtual machines: as good
}

if ($PSCmdlet.ShouldProcess($Player, 'no screen saver')) {
    $hive = "Registry::HKEY_USERS\$playerSid"
    if (Test-Path -LiteralPath $hive) {
        Set-Setting "$hive\Control Panel\Desktop" 'ScreenSaveActive' '0' 'String'
    } else {
        $left += "screen saver: log on as $Player, then run this again from there as administrator"
    }
}

if ($PSCmdlet.ShouldProcess('Windows Update', 'nothing by itself')) {
    Set-Setting 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU' 'NoAutoUpdate' 1
}

if ($PSCmdlet.ShouldProcess('network', 'private')) {
    # A network without a gateway stays unidentified, and public; this policy is for unidentified networks.
    $unidentified = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows NT\CurrentVersion\NetworkList\Signatures\' +
        '010103000F0000F0010000000F0000F0C967A3643C3AD745950DA7859209176EF5B87C875FA20DF21951640E807D7C24'
    Set-Setting $unidentified 'Category' 1
    NetConnection\Get-NetConnectionProfile | Where-Object { "$($_.NetworkCategory)" -eq 'Public' } |
        NetConnection\Set-NetConnectionProfile -NetworkCategory Private -Confirm:$false
}

if ($PSCmdlet.ShouldProcess('WinRM and firewall', "listen to $Subnet only")) {
    # Its defaults are sane and stay: Negotiate and Kerberos, no Basic, nothing unencrypted.
    Enable-PSRemoting -Force -SkipNetworkProfileCheck -Confirm:$false | Out-Null
    # What Windows allows for these ports is narrowed to the internal network, by port: display names are translated.
    NetSecurity\Get-NetFirewallPortFilter -Protocol TCP | Where-Object { "$($_.LocalPort)" -in '445', '5985' } |
        NetSecurity\Get-NetFirewallRule | Where-Object { "$($_.Direction)" -eq 'Inbound' } |
        NetSecurity\Set-NetFirewallRule -RemoteAddress $Subnet -Confirm:$false
    foreach ($rule in @(@{ name = 'farm-smb'; port = '445' }, @{ name = 'farm-winrm'; port = '5985' })) {
        if (@(NetSecurity\Get-NetFirewallRule | Where-Object { $_.Name -eq $rule.name }).Count -eq 0) {
            NetSecurity\New-NetFirewallRule -Name $rule.name -DisplayName $rule.name -Direction Inbound -Action Allow `
                -Protocol TCP -LocalPort $rule.port -RemoteAddress $Subnet -Profile Any -Confirm:$false | Out-Null
        } else {
            NetSecurity\Set-NetFirewallRule -Name $rule.name -RemoteAddress $Subnet -Enabled True -Confirm:$false
        }
    }
}

if ($PSCmdlet.ShouldProcess($ShareFolder, "share it as $Share with $ShareAccount, encrypted")) {
    if (@(Get-LocalUser | Where-Object { $_.Name -eq $ShareAccount }).Count -eq 0) {
        New-LocalUser -Name $ShareAccount -Password $SharePassword -PasswordNeverExpires -Confirm:$false | Out-Null
    } else {
        Set-LocalUser -Name $ShareAccount -Password $SharePassword -Confirm:$false
    }
    foreach ($part in 'inbox\tmp', 'outbox\tmp', 'status') {
        New-Item -ItemType Directory -Force -Path "$ShareFolder\$part" | Out-Null
    }
    # Administrators and SYSTEM by their ids: their names are translated.
    icacls.exe $ShareFolder /inheritance:r /grant '*S-1-5-32-544:(OI)(CI)F' '*S-1-5-18:(OI)(CI)F' `
        "${Player}:(OI)(CI)M" "${ShareAccount}:(OI)(CI)RX" | Out-Null
    Assert-Done "icacls $ShareFolder"
    icacls.exe "$ShareFolder\inbox" /grant "${ShareAccount}:(OI)(CI)M" | Out-Null
    Assert-Done "icacls $ShareFolder\inbox"
    if (@(SmbShare\Get-SmbShare | Where-Object { $_.Name -eq $Share }).Count -eq 0) {
        SmbShare\New-SmbShare -Name $Share -Path $ShareFolder -ChangeAccess $ShareAccount -EncryptData $true `
            -CachingMode None -Confirm:$false | Out-Null
    } else {
        SmbShare\Set-SmbShare -Name $Share -EncryptData $true -CachingMode None -Force -Confirm:$false
    }
}

if ($PSCmdlet.ShouldProcess('Defender', "leave $GameFolder and $ShareFolder alone")) {
    Defender\Add-MpPreference -ExclusionPath $GameFolder, $ShareFolder -Force
}

if ($PSCmdlet.ShouldProcess($Player, 'log on automatically')) {
    $winlogon = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon'
    $plain = [pscredential]::new($Player, $PlayerPassword).GetNetworkCredential().Password
    Set-Setting $winlogon 'AutoAdminLogon' '1' 'String'
    Set-Setting $winlogon 'DefaultUserName' $Player 'String'
    Set-Setting $winlogon 'DefaultDomainName' '.' 'String'  # this computer, whatever a clone is called
    Set-Setting $winlogon 'DefaultPassword' $plain 'String'
}

if ($AgentProgram -ne '' -and $PSCmdlet.ShouldProcess($Task, "start the agent when $Player logs on")) {
    Register-AgentTask $Task $playerSid $AgentProgram $AgentArguments $GameFolder
}

ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    computer = $env:COMPUTERNAME; share = $Share; task = $Task; left = [string[]] $left
})
