<#
.SYNOPSIS
Installs the agent in this machine from the bundle this script lies in, without a network.

.DESCRIPTION
Checks the bundle, gives the agent a Python of its own, installs it there, writes agent.toml, and registers the task
that starts the agent when the player logs on. It opens no port and changes nothing else. Administrator rights are
needed only to install it for somebody else than yourself, or to write where you may not.

It says why it stops, and the exit code of powershell.exe -File is then 1. What a stopped installation left is taken
away by uninstall-agent.ps1.

.PARAMETER Player
The user of this computer who is logged on at the console and plays. Left out: you.

.PARAMETER ShareFolder
The folder that the agent watches: the share's. It is made if it is not there.

.PARAMETER GameFolder
The folder of the evaluator's files.

.PARAMETER Function
The evaluator as a Python function in that folder: my_game:play.

.PARAMETER Command
The evaluator as a program, one argument each, with {genome}, {seed}, {result} and so on.

.PARAMETER ProgramFolder
The folder to make for the agent.

.PARAMETER PythonFolder
Where an installed Python is. Left out: the embeddable Python of the bundle.

.PARAMETER Task
The agent's logon task.

.EXAMPLE
.\install-agent.ps1 -Player player -GameFolder C:\game -Function my_game:play -PythonFolder 'C:\Program Files\Python312'

.EXAMPLE
.\install-agent.ps1 -GameFolder C:\game -Command 'C:\game\bot.exe', '{genome}', '--seed', '{seed}', '--out', '{result}'
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [ValidatePattern('^[^"/\\\[\]:;|=,+*?<>@\x00-\x1f]{1,20}\z')]
    [string] $Player = $env:USERNAME,

    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]*[^*?"<>|\[\]\\\x00-\x1f]\z')]
    [string] $ShareFolder = 'C:\exchange',

    [Parameter(Mandatory)]
    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]*[^*?"<>|\[\]\\\x00-\x1f]\z')]
    [string] $GameFolder,

    [ValidatePattern('^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?\z')]
    [string] $Function = '',

    [string[]] $Command = @(),

    [ValidatePattern('^[A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]*[^*?"<>|\[\]\\\x00-\x1f]\z')]
    [string] $ProgramFolder = 'C:\farm\agent',

    [ValidatePattern('^([A-Za-z]:\\[^*?"<>|\[\]\x00-\x1f]+)?\z')]
    [string] $PythonFolder = '',

    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9 _-]{0,62}\z')]
    [string] $Task = 'inbox-agent'
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

if (@(Get-LocalUser | Where-Object { $_.Name -eq $Player }).Count -eq 0) {
    Stop-Because 'BadInput' "${Player}: no such user of this computer; New-LocalUser makes it"
}
$playerSid = "$((Get-LocalUser -Name $Player).SID)"
$me = [System.Security.Principal.WindowsIdentity]::GetCurrent()
$administrator = [System.Security.Principal.WindowsBuiltInRole]::Administrator
if ("$($me.User)" -ne $playerSid -and
    -not [System.Security.Principal.WindowsPrincipal]::new($me).IsInRole($administrator)) {
    Stop-Because 'NotAllowed' "${Player}: is somebody else; log on as $Player, or start PowerShell as administrator"
}
if (Test-Path -LiteralPath $ProgramFolder) {
    Stop-Because 'Exists' "${ProgramFolder}: is there already; uninstall-agent.ps1 takes away what was installed there"
}
if (-not (Test-Path -LiteralPath $GameFolder -PathType Container)) {
    Stop-Because 'BadInput' "${GameFolder}: no such folder; put the game there first"
}
if (($Function -eq '') -eq ($Command.Count -eq 0)) {
    Stop-Because 'BadInput' 'nothing to play, or two things: give one of -Function and -Command'
}
$embedded = "$PSScriptRoot\python-embedded.zip"
$embeds = $PythonFolder -eq ''
if ($embeds -and -not (Test-Path -LiteralPath $embedded)) {
    Stop-Because 'BadInput' "${embedded}: not there; name an installed Python with -PythonFolder"
}
if ($embeds) { $PythonFolder = "$ProgramFolder\python" }
elseif (-not (Test-Path -LiteralPath "$PythonFolder\python.exe")) {
    Stop-Because 'BadInput' "${PythonFolder}: has no python.exe; name the folder in which it is"
}

$answer = $null
if ($PSCmdlet.ShouldProcess($ProgramFolder, 'install the agent')) {
    New-Item -ItemType Directory -Force -Path $ProgramFolder, $ShareFolder | Out-Null
    if ($embeds) { Expand-Archive -LiteralPath $embedded -DestinationPath $PythonFolder -Force -Confirm:$false }
    $evaluator = if ($Function -ne '') { @{ python = $Function } } else { @{ command = [string[]] $Command } }
    $order = ConvertTo-Json -Compress -Depth 4 -InputObject @{
        program = $ProgramFolder; game = $GameFolder; share = $ShareFolder; evaluator = $evaluator
    }
    # As base64 it needs no quotes; a quote within an argument would be lost on the way.
    $sent = [System.Convert]::ToBase64String([System.Text.Encoding]::UTF8.GetBytes($order))
    Push-Location -LiteralPath $PythonFolder
    try {
        $answer = .\python.exe '-I' "$PSScriptRoot\install.py" $sent | ConvertFrom-Json
    } finally {
        Pop-Location
    }
    if ($null -eq $answer) {
        Stop-Because 'BadBundle' "${PythonFolder}: its python.exe gave no answer; run it by hand to see why"
    }
    if ($LASTEXITCODE -ne 0) { Stop-Because 'BadBundle' $answer.error }
}
if ($PSCmdlet.ShouldProcess($Task, "start the agent when $Player logs on") -and $null -ne $answer) {
    Register-AgentTask $Task $playerSid $answer.program $answer.arguments $GameFolder
}
ConvertTo-Json -Compress -Depth 4 -InputObject ([pscustomobject]@{
    computer = $env:COMPUTERNAME; folder = $ProgramFolder; task = $Task; player = $Player
})
