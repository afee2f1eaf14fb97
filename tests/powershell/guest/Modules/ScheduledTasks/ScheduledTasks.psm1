# Scheduled tasks: `tasks` of the fake computer. CDXML on Windows.
function New-ScheduledTaskAction {
    [CmdletBinding(PositionalBinding = $false)]
    param(
        [string] $Id, [Parameter(Mandatory, Position = 0)] [ValidateNotNullOrEmpty()] [string] $Execute,
        [Parameter(Position = 1)] [ValidateNotNullOrEmpty()] [string] $Argument,
        [Parameter(Position = 2)] [ValidateNotNullOrEmpty()] [string] $WorkingDirectory
    )
    [pscustomobject]@{ Id = $Id; Execute = $Execute; Arguments = $Argument; WorkingDirectory = $WorkingDirectory }
}

function New-ScheduledTaskTrigger {
    [CmdletBinding(DefaultParameterSetName = 'Once', PositionalBinding = $false)]
    param(
        [Parameter(Mandatory, ParameterSetName = 'Logon')] [switch] $AtLogOn,
        [Parameter(ParameterSetName = 'Logon')] [string] $User,
        [Parameter(Mandatory, ParameterSetName = 'Once')] [switch] $Once,
        [Parameter(Mandatory, ParameterSetName = 'Once')] [datetime] $At,
        [Parameter(ParameterSetName = 'Once')] [timespan] $RepetitionInterval,
        [Parameter(ParameterSetName = 'Once')] [timespan] $RepetitionDuration,
        [timespan] $RandomDelay
    )
    $repetition = $null
    if ($PSBoundParameters.ContainsKey('RepetitionInterval')) {
        $repetition = [pscustomobject]@{
            Interval = [System.Xml.XmlConvert]::ToString($RepetitionInterval); Duration = $null
            StopAtDurationEnd = $false
        }
    }
    $class = if ($AtLogOn) { 'MSFT_TaskLogonTrigger' } else { 'MSFT_TaskTimeTrigger' }
    [pscustomobject]@{
        Enabled = $true; UserId = $User; Repetition = $repetition; Delay = $null
        CimClass = [pscustomobject]@{ CimClassName = $class }
    }
}

function New-ScheduledTaskPrincipal {
    [CmdletBinding(DefaultParameterSetName = 'User', PositionalBinding = $false)]
    param(
        [Parameter(Mandatory, Position = 0)] [string] $UserId,
        [ValidateSet('None', 'Password', 'S4U', 'Interactive', 'Group', 'ServiceAccount', 'InteractiveOrPassword')]
        [string] $LogonType,
        [ValidateSet('Limited', 'Highest')] [string] $RunLevel
    )
    [pscustomobject]@{ UserId = $UserId; LogonType = $LogonType; RunLevel = $RunLevel }
}

function New-ScheduledTaskSettingsSet {
    [CmdletBinding(PositionalBinding = $false)]
    param(
        [switch] $AllowStartIfOnBatteries, [switch] $DontStopIfGoingOnBatteries, [switch] $Hidden, [switch] $Disable,
        [timespan] $ExecutionTimeLimit, [ValidateSet('Parallel', 'Queue', 'IgnoreNew')] [string] $MultipleInstances,
        [int] $Priority = 7, [int] $RestartCount, [timespan] $RestartInterval
    )
    [pscustomobject]@{
        Enabled = -not $Disable; Hidden = [bool] $Hidden; Priority = $Priority; MultipleInstances = $MultipleInstances
        RestartCount = $RestartCount
        RestartInterval = [System.Xml.XmlConvert]::ToString($RestartInterval)
        ExecutionTimeLimit = [System.Xml.XmlConvert]::ToString($ExecutionTimeLimit)
        DisallowStartIfOnBatteries = -not $AllowStartIfOnBatteries
        StopIfGoingOnBatteries = -not $DontStopIfGoingOnBatteries
    }
}

function Write-Denied($Cmdlet) {
    Write-CdxmlError $Cmdlet 'HRESULT 0x80070005' PermissionDenied 'Access is denied.'
}

function Get-Idle($Task) {
    $isDisabled = $null -ne $Task.PSObject.Properties['Settings'] -and -not $Task.Settings.Enabled
    if ($isDisabled) { 'Disabled' } else { 'Ready' }
}

function Find-Task([string] $TaskName, [string] $TaskPath) {
    @((Get-FakeComputer).tasks | Where-Object { $_.TaskName -eq $TaskName -and $_.TaskPath -eq $TaskPath })
}

function Register-ScheduledTask {
    [CmdletBinding(DefaultParameterSetName = 'Principal', PositionalBinding = $false)]
    param(
        [switch] $Force, [Parameter(Mandatory, Position = 0)] [ValidateNotNullOrEmpty()] [string] $TaskName,
        [string] $TaskPath = '\',
        [Parameter(Mandatory)] [psobject[]] $Action, [psobject] $Settings, [psobject[]] $Trigger, [psobject] $Principal
    )
    if ((Get-FakeComputer).taskDenied) { Write-Denied $PSCmdlet; return }
    $there = Find-Task $TaskName $TaskPath
    if ($there.Count -gt 0 -and -not $Force) {
        Write-CdxmlError $PSCmdlet 'HRESULT 0x800700b7' ResourceExists `
            'Cannot create a file when that file already exists.'
        return
    }
    foreach ($one in $there) { (Get-FakeComputer).tasks.Remove($one) }
    Add-Change "Register-ScheduledTask $TaskPath$TaskName"
    $task = [pscustomobject]@{
        TaskName = $TaskName; TaskPath = $TaskPath; State = 'Ready'; Actions = @($Action); Triggers = @($Trigger)
        Principal = $Principal; Settings = $Settings; stopLooks = 0
    }
    $null = (Get-FakeComputer).tasks.Add($task)
    $task
}

function Get-ScheduledTask {
    [CmdletBinding(PositionalBinding = $false)]
    param([Parameter(Position = 0)] [string[]] $TaskName, [string[]] $TaskPath)
    $computer = Get-FakeComputer
    $found = @($computer.tasks | Where-Object { $null -eq $TaskName -or $_.TaskName -in $TaskName } |
        Where-Object { $null -eq $TaskPath -or $_.TaskPath -in $TaskPath })
    if ($found.Count -eq 0 -and $null -ne $TaskName) {
        Write-CdxmlError $PSCmdlet 'CmdletizationQuery_NotFound_TaskName' ObjectNotFound (
            "No MSFT_ScheduledTask objects found with property 'TaskName' equal to '$TaskName'.  Verify the value " +
            'of the property and retry.')
        return
    }
    foreach ($one in $found) {
        # A task that repeats, of a user who is logged on. The reference does not say whether a task with a logon
        # trigger repeats after it was disabled and enabled again in the same session.
        if ($one.State -eq 'Ready' -and $computer.repeats -ne '') {
            $one.State = 'Running'
            [System.IO.File]::WriteAllText("$($computer.share)\status\agent.json", '{}')
        }
        # A stopped task runs on for some calls.
        if ($one.stopLooks -gt 0) {
            $one.stopLooks--
            if ($one.stopLooks -eq 0) { $one.State = Get-Idle $one }
        }
        $one
    }
}

function Stop-ScheduledTask {
    [CmdletBinding(DefaultParameterSetName = 'Path', PositionalBinding = $false)]
    param([Parameter(Mandatory, Position = 0)] [ValidateNotNullOrEmpty()] [string] $TaskName, [string] $TaskPath = '\')
    if ((Get-FakeComputer).taskDenied) { Write-Denied $PSCmdlet; return }
    $found = Find-Task $TaskName $TaskPath
    if ($found.Count -eq 0) {
        Write-CdxmlError $PSCmdlet 'HRESULT 0x80070002' ObjectNotFound 'The system cannot find the file specified.'
        return
    }
    Add-Change "Stop-ScheduledTask $TaskName"
    $looks = (Get-FakeComputer).taskStopLooks
    if ($found[0].State -eq 'Running') {
        if ($looks -eq 0) { $found[0].State = Get-Idle $found[0] } else { $found[0].stopLooks = $looks }
    }
}

function Start-ScheduledTask {
    [CmdletBinding(DefaultParameterSetName = 'Path', PositionalBinding = $false)]
    param([Parameter(Mandatory, Position = 0)] [ValidateNotNullOrEmpty()] [string] $TaskName, [string] $TaskPath = '\')
    $computer = Get-FakeComputer
    $found = Find-Task $TaskName $TaskPath
    if ($found.Count -eq 0) {
        Write-CdxmlError $PSCmdlet 'HRESULT 0x80070002' ObjectNotFound 'The system cannot find the file specified.'
        return
    }
    if ($found[0].State -eq 'Disabled') {
        Write-CdxmlError $PSCmdlet 'HRESULT 0x80041326' InvalidOperation 'The task is disabled.'
        return
    }
    if ($found[0].State -eq 'Running') { return }  # IgnoreNew
    if ($found[0].Principal.LogonType -eq 'Interactive' -and $found[0].Principal.UserId -notin $computer.loggedOn) {
        return
    }
    Add-Change "Start-ScheduledTask $TaskName"
    if (-not $computer.programFails) { $found[0].State = 'Running' }
}

function Set-Enabled($Cmdlet, [string] $TaskName, [string] $TaskPath, [bool] $Enabled) {
    # A disabled task is Running while an instance of it runs (TASK_STATE: Disabled has none queued or running).
    $name = $Cmdlet.MyInvocation.MyCommand.Name
    if ((Get-FakeComputer).taskDenied) { Write-Denied $Cmdlet; return }
    $found = Find-Task $TaskName $TaskPath
    if ($found.Count -eq 0) {
        Write-CdxmlError $Cmdlet 'HRESULT 0x80070002' ObjectNotFound 'The system cannot find the file specified.'
        return
    }
    Add-Change "$name $TaskName"
    if (-not $Enabled -and (Get-FakeComputer).repeats -eq 'enabled') { (Get-FakeComputer).repeats = '' }
    if ($null -ne $found[0].PSObject.Properties['Settings']) { $found[0].Settings.Enabled = $Enabled }
    if ($found[0].State -ne 'Running') { $found[0].State = $(if ($Enabled) { 'Ready' } else { 'Disabled' }) }
    $found[0]
}

function Disable-ScheduledTask {
    [CmdletBinding(DefaultParameterSetName = 'Name', PositionalBinding = $false)]
    param(
        [Parameter(Mandatory, Position = 0)] [ValidateNotNullOrEmpty()] [string] $TaskName,
        [Parameter(Position = 1)] [string] $TaskPath = '\'
    )
    Set-Enabled $PSCmdlet $TaskName $TaskPath $false
}

function Enable-ScheduledTask {
    [CmdletBinding(DefaultParameterSetName = 'Name', PositionalBinding = $false)]
    param(
        [Parameter(Mandatory, Position = 0)] [ValidateNotNullOrEmpty()] [string] $TaskName,
        [Parameter(Position = 1)] [string] $TaskPath = '\'
    )
    Set-Enabled $PSCmdlet $TaskName $TaskPath $true
}

function Unregister-ScheduledTask {
    [CmdletBinding(DefaultParameterSetName = 'Name', SupportsShouldProcess, ConfirmImpact = 'High',
        PositionalBinding = $false)]
    param([Parameter(Mandatory, Position = 0)] [string[]] $TaskName, [string[]] $TaskPath)
    if ((Get-FakeComputer).taskDenied) { Write-Denied $PSCmdlet; return }
    if (-not $PSCmdlet.ShouldProcess("$TaskPath$TaskName")) { return }
    foreach ($one in (Find-Task $TaskName[0] $TaskPath[0])) {
        Add-Change "Unregister-ScheduledTask $TaskName"
        (Get-FakeComputer).tasks.Remove($one)
    }
}

Export-ModuleMember -Function *-ScheduledTask*
