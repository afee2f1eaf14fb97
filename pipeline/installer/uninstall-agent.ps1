<#
.SYNOPSIS
Takes away what install-agent.ps1 installed in this machine.

.DESCRIPTION
Ends the agent with the game it plays, removes its logon task and its folder. The share and the agent's own notes stay:
a game in hand is said to be interrupted by the agent that comes next. With -All they go as well.

Run it as whom the agent was installed by. It says why it stops, and the exit code of powershell.exe -File is then 1.

.PARAMETER Player
The user who plays. Left out: you.

.PARAMETER ShareFolder
The folder that the agent watches. Removed only with -All.

.PARAMETER ProgramFolder
The folder of the agent.

.PARAMETER Task
The agent's logon task.

.PARAMETER All
Removes the share's folder and the player's notes too: only if the host has no work in this share.

.EXAMPLE
.\uninstall-agent.ps1 -Player player
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [ValidatePattern('^[^"/\\\[\]:;|=,+*?<>@\x00-\x1f]{1,20}\z')]
    [string] $Player = $env:USERNAME,

    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]*[^*?"<>|\[\]\\\x00-\x1f]\z')]
    [string] $ShareFolder = 'C:\exchange',

    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]*[^*?"<>|\[\]\\\x00-\x1f]\z')]
    [string] $ProgramFolder = 'C:\farm\agent',

    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9 _-]{0,62}\z')]
    [string] $Task = 'inbox-agent',

    [switch] $All
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

function Get-Stranger([string] $Folder, [string[]] $Known) {
    # What somebody else put into a folder that is about to be removed.
    Get-ChildItem -LiteralPath $Folder -Force | Where-Object { $_.Name -notin $Known } | ForEach-Object { $_.Name }
}

$registered = @(ScheduledTasks\Get-ScheduledTask | Where-Object { $_.TaskName -eq $Task -and $_.TaskPath -eq '\' })
$folders = @()
if (Test-Path -LiteralPath $ProgramFolder) {
    $strange = @(Get-Stranger $ProgramFolder @('agent.toml', 'python'))
    if ($strange.Count -gt 0) {
        Stop-Because 'NotAllowed' "${ProgramFolder}: $($strange[0]) in it is not the agent's; is it the right folder?"
    }
    $folders += $ProgramFolder
}
if ($All -and (Test-Path -LiteralPath $ShareFolder)) {
    $strange = @(Get-Stranger $ShareFolder @('inbox', 'outbox', 'status'))
    if ($strange.Count -gt 0) {
        Stop-Because 'NotAllowed' "${ShareFolder}: $($strange[0]) in it is no share's; is it the right folder?"
    }
    $folders += $ShareFolder
}
if ($All) {
    if (@(Get-LocalUser | Where-Object { $_.Name -eq $Player }).Count -eq 0) {
        Stop-Because 'BadInput' "${Player}: no such user of this computer"
    }
    $profiles = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList'
    $about = Get-ItemProperty -LiteralPath "$profiles\$((Get-LocalUser -Name $Player).SID)" -Name 'ProfileImagePath'
    $notes = "$($about.ProfileImagePath)\AppData\Local\inbox-agent"
    if (Test-Path -LiteralPath $notes) { $folders += $notes }
}

if ($registered.Count -gt 0 -and $PSCmdlet.ShouldProcess($Task, 'end and remove the task')) {
    ScheduledTasks\Stop-ScheduledTask -TaskName $Task -TaskPath '\'
    # While the agent is still leaving, its program cannot be removed.
    $deadline = [datetime]::UtcNow.AddSeconds(15)
    while ("$((ScheduledTasks\Get-ScheduledTask -TaskName $Task -TaskPath '\').State)" -eq 'Running' -and
        [datetime]::UtcNow -lt $deadline) {
        Start-Sleep -Milliseconds 200
    }
    ScheduledTasks\Unregister-ScheduledTask -TaskName $Task -TaskPath '\' -Confirm:$false
}
foreach ($folder in $folders) {
    if ($PSCmdlet.ShouldProcess($folder, 'remove the folder')) {
        Remove-Item -LiteralPath $folder -Recurse -Force -Confirm:$false
    }
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    computer = $env:COMPUTERNAME; task = $registered.Count; folders = [string[]] $folders
})
