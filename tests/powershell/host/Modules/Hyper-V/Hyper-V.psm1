# Hyper-V in one process: names, parameters, types, states and errors of the real module, as in Microsoft's reference.
# Machines are objects, disks are small files, and folders and files are where New-VM and New-VHD would put them.
#
# A test controls it by:
#     Reset-HyperV                  an empty host with the internal switch `farm`
#     Get-HyperVWorld               its state: .Machines, .Drives, .Snapshots, .Switches, .Adapters, .Services ...
#     Set-HyperVFault CMDLET FAULT  the next calls of a cmdlet fail with an error record, or run a script block first
#     Get-HyperVCall                every call, in order, as text
Import-Module "$PSScriptRoot\..\..\..\Jobs.psm1"
Set-StrictMode -Version 3.0
if (-not ('Microsoft.HyperV.PowerShell.VirtualMachine' -as [type])) {
    Add-Type -TypeDefinition ([System.IO.File]::ReadAllText("$PSScriptRoot\types.cs"))
}
$GuestService = '6C09BB55-D683-4DA0-8931-C9BF705F6480'
$Services = [ordered]@{  # id, name in English and in German, enabled in a new machine
    '84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47' = 'Heartbeat', 'Takt', $true
    '9F8233AC-BE49-4C79-8EE3-E7E1985B2077' = 'Shutdown', 'Herunterfahren', $true
    '2497F4DE-E9FA-4204-80E4-4B75C46419C0' = 'Time Synchronization', 'Zeitsynchronisierung', $true
    '2A34B1C2-FD73-4043-8A5B-DD2159BC743F' = 'Key-Value Pair Exchange', 'Austausch von Schluesselwertepaaren', $true
    '5CED1297-4598-4915-A5FC-AD21BB4D02A4' = 'VSS', 'VSS', $true
    '6C09BB55-D683-4DA0-8931-C9BF705F6480' = 'Guest Service Interface', 'Gastdienstschnittstelle', $false
}

function Reset-HyperV([int] $Language = 0) {
    $script:World = @{
        Machines = [System.Collections.Generic.List[object]]::new()
        Snapshots = [System.Collections.Generic.List[object]]::new()
        Drives = @{}  # id of a machine: its list of drives
        Adapters = @{}
        Services = @{}
        Videos = @{}
        Firmwares = @{}  # of machines of generation 2
        Securities = @{}
        Nested = @{}  # whether a machine may run a hypervisor itself
        Gpus = @{}
        Dvds = @{}
        Switches = [System.Collections.Generic.List[object]]::new()
        Host = [Microsoft.HyperV.PowerShell.VMHost] @{ Name = 'HOST'; LogicalProcessorCount = 8; MemoryCapacity = 32gb }
        Language = $Language  # 0 English, 1 German
        Denied = $false  # whether Hyper-V refuses the account
        MemoryFree = 24gb
        IsClient = $true  # Windows 10 and 11 create automatic checkpoints by default
        Clock = [datetime] '2026-01-01T00:00:00'
    }
    $script:Faults = @{}
    $script:Calls = [System.Collections.Generic.List[string]]::new()
    New-Switch 'farm' 'Internal'
}

function New-Switch([string] $Name, [string] $Type) {
    $new = [Microsoft.HyperV.PowerShell.VMSwitch] @{ Id = [guid]::NewGuid(); Name = $Name; SwitchType = $Type }
    $World.Switches.Add($new)
}

function Get-HyperVWorld { $World }
function Get-HyperVCall { $Calls }
function Set-HyperVFault([string] $Cmdlet, $Fault, [int] $Times = 1) {
    $Faults[$Cmdlet] = @{ fault = $Fault; times = $Times }
}

function New-Record([string] $Id, [string] $Category, [string] $Message) {
    [System.Management.Automation.ErrorRecord]::new(
        [Microsoft.HyperV.PowerShell.VirtualizationException]::new($Message), $Id, $Category, $null)
}

function Write-Failure($Cmdlet, $Record) {
    # A cmdlet uses the $ErrorActionPreference of its caller; a function of a module does not.
    $own = $Cmdlet.MyInvocation.BoundParameters.ContainsKey('ErrorAction')
    if (-not $own -and "$($Cmdlet.SessionState.PSVariable.GetValue('ErrorActionPreference'))" -eq 'Stop') {
        $Cmdlet.ThrowTerminatingError($Record)
    }
    $Cmdlet.WriteError($Record)
}

function Write-HyperVError($Cmdlet, [string] $Id, [string] $Category, [string] $Message) {
    Write-Failure $Cmdlet (New-Record $Id $Category $Message)
}

# The start of every cmdlet: records the call; false if the cmdlet fails, because of a fault or a refused account.
function Enter-Cmdlet($Cmdlet, [hashtable] $Bound) {
    $name = $Cmdlet.MyInvocation.MyCommand.Name
    $Calls.Add("$name " +
        (($Bound.GetEnumerator() | Sort-Object Key | ForEach-Object { "-$($_.Key) $($_.Value)" }) -join ' '))
    if ($World.Denied) {
        Write-HyperVError $Cmdlet 'AccessDenied' PermissionDenied (
            'You do not have the required permission to complete this task. Contact the administrator of the ' +
            "authorization policy for the computer 'HOST'.")
        return $false
    }
    if ($Faults.ContainsKey($name) -and $Faults[$name].times -gt 0) {
        $Faults[$name].times--
        $fault = $Faults[$name].fault
        if ($fault -is [scriptblock]) {
            & $fault $Bound
        } else {
            Write-Failure $Cmdlet $fault
            return $false
        }
    }
    return $true
}

function Get-Given([hashtable] $Bound) {
    # The machines of a call, given by object or by name.
    if ($Bound.ContainsKey('VM')) { return $Bound['VM'] }
    Get-VM -Name $(if ($Bound.ContainsKey('VMName')) { $Bound['VMName'] } else { $Bound['Name'] })
}

function Test-State($Cmdlet, $Machine, [string[]] $Allowed) {
    if ("$($Machine.State)" -in $Allowed) { return $true }
    Write-HyperVError $Cmdlet 'InvalidState' InvalidOperation (
        "'$($Machine.Name)' failed to change state. The operation cannot be performed while the object is in its " +
        'current state.')
    return $false
}

function Test-Exists($Cmdlet, $Machine) {
    # An object of a machine outlives the machine.
    if (@($World.Machines | Where-Object { $_.Id -eq $Machine.Id }).Count -gt 0) { return $true }
    Write-HyperVError $Cmdlet 'InvalidParameter' InvalidArgument `
        "Hyper-V was unable to find a virtual machine with id $($Machine.Id)."
    return $false
}

# ------------------------------------------------------------------------------------------------------------- machines

function Get-VM {
    [CmdletBinding(DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, ValueFromPipeline)]
        [ValidateNotNullOrEmpty()] [string[]] $Name,
        [Parameter(ParameterSetName = 'Id', Position = 0, Mandatory)] [Nullable[guid]] $Id,
        [string[]] $ComputerName
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        if ($PSBoundParameters.ContainsKey('Id')) {
            $found = @($World.Machines | Where-Object { $_.Id -eq $Id })
            if ($found.Count -eq 0) {
                Write-HyperVError $PSCmdlet 'InvalidParameter' InvalidArgument `
                    "Hyper-V was unable to find a virtual machine with id $Id."
            }
            return $found
        }
        if ($null -eq $Name) { return $World.Machines.ToArray() }
        foreach ($one in $Name) {
            $found = @($World.Machines | Where-Object { $_.Name -like $one })
            if ($found.Count -eq 0 -and
                -not [System.Management.Automation.WildcardPattern]::ContainsWildcardCharacters($one)) {
                Write-HyperVError $PSCmdlet 'InvalidParameter' InvalidArgument `
                    "Hyper-V was unable to find a virtual machine with name `"$one`"."
            }
            $found
        }
    }
}

function New-VM {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'No VHD')]
    param(
        [Parameter(Position = 0)] [string] $Name,
        [Parameter(Position = 1)] [Nullable[long]] $MemoryStartupBytes,
        [Parameter(Position = 2)] [ValidateSet(1, 2)] [int16] $Generation = 1,
        [Parameter(ParameterSetName = 'Existing VHD', Mandatory)] [ValidateNotNullOrEmpty()] [string] $VHDPath,
        [Parameter(ParameterSetName = 'New VHD', Mandatory)] [ValidateNotNullOrEmpty()] [string] $NewVHDPath,
        [Parameter(ParameterSetName = 'New VHD', Mandatory)] [uint64] $NewVHDSizeBytes,
        [Parameter(ParameterSetName = 'No VHD')] [switch] $NoVHD,
        [string] $SwitchName, [string] $Path, [switch] $Force
    )
    if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
    if (-not $PSCmdlet.ShouldProcess($Name, 'New-VM')) { return }
    if ($SwitchName -ne '' -and @($World.Switches | Where-Object { $_.Name -eq $SwitchName }).Count -eq 0) {
        Write-HyperVError $PSCmdlet 'InvalidParameter' InvalidArgument `
            "Hyper-V was unable to find a virtual switch with name `"$SwitchName`"."
        return
    }
    $startup = if ($null -ne $MemoryStartupBytes) { $MemoryStartupBytes } else { 512mb }
    if ($startup % 2mb -ne 0) {
        Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified (
            "Failed to add device 'Memory'. Invalid startup memory amount assigned for '$Name'. The amount must be " +
            'a multiple of 2 MB.')
        return
    }
    if ($VHDPath -ne '' -and -not (Test-Path -LiteralPath $VHDPath)) {
        Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified `
            "Failed to add device 'Virtual Hard Disk'. The system cannot find the file specified. (0x80070002)"
        return
    }
    if ($NewVHDPath -ne '') {
        New-Item -ItemType Directory -Force -Path (Split-Path -Parent $NewVHDPath) -WhatIf:$false -Confirm:$false |
            Out-Null
        New-VHD -Path $NewVHDPath -SizeBytes $NewVHDSizeBytes -Dynamic | Out-Null
        $VHDPath = $NewVHDPath
    }
    $id = [guid]::NewGuid()
    $where = if ($Path -ne '') { "$Path\$Name" } else { 'C:\ProgramData\Microsoft\Windows\Hyper-V' }
    foreach ($part in 'Virtual Machines', 'Snapshots') {
        New-Item -ItemType Directory -Force -Path "$where\$part" -WhatIf:$false -Confirm:$false | Out-Null
    }
    [System.IO.File]::WriteAllText("$where\Virtual Machines\$id.vmcx", '')
    $machine = [Microsoft.HyperV.PowerShell.VirtualMachine] @{
        Id = $id; Name = $Name; State = 'Off'; Generation = $Generation; MemoryStartup = $startup
        MemoryMinimum = 512mb; MemoryMaximum = 1tb; ProcessorCount = 1; Notes = ''; Path = $where
        ConfigurationLocation = $where; SnapshotFileLocation = $where; CheckpointType = 'Production'
        AutomaticCheckpointsEnabled = $World.IsClient; AutomaticStartAction = 'StartIfRunning'
        AutomaticStopAction = 'Save'
        ComputerName = 'HOST'; LowMemoryMappedIoSpace = 128mb; HighMemoryMappedIoSpace = 512mb
    }
    $World.Machines.Add($machine)
    $World.Videos[$id] = [Microsoft.HyperV.PowerShell.VMVideo] @{
        VMName = $Name; VMId = $id; ResolutionType = 'Default'; HorizontalResolution = 1024; VerticalResolution = 768
    }
    $World.Securities[$id] = [Microsoft.HyperV.PowerShell.VMSecurity] @{ VMName = $Name; VMId = $id }
    $World.Nested[$id] = $false
    $World.Gpus[$id] = [System.Collections.Generic.List[object]]::new()
    $World.Dvds[$id] = [System.Collections.Generic.List[object]]::new()
    if ($Generation -eq 2) {
        $World.Firmwares[$id] = [Microsoft.HyperV.PowerShell.VMFirmware] @{
            VMName = $Name; VMId = $id; SecureBoot = 'On'; SecureBootTemplate = 'MicrosoftWindows'
        }
    }
    $World.Drives[$id] = [System.Collections.Generic.List[object]]::new()
    if ($VHDPath -ne '') {
        $drive = [Microsoft.HyperV.PowerShell.HardDiskDrive] @{ VMName = $Name; VMId = $id; Path = $VHDPath }
        $World.Drives[$id].Add($drive)
    }
    $World.Adapters[$id] = @([Microsoft.HyperV.PowerShell.VMNetworkAdapter] @{
        VMName = $Name
        Name = 'Network Adapter'
        SwitchName = $SwitchName
        MacAddress = '00155D000001'
        IPAddresses = @()
    })
    $World.Services[$id] = @($Services.GetEnumerator() | ForEach-Object {
        [Microsoft.HyperV.PowerShell.VMIntegrationComponent] @{
            VMName = $Name; VMId = $id; Name = $_.Value[$World.Language]; Id = "Microsoft:$("$id".ToUpper())\$($_.Key)"
            Enabled = $_.Value[2]; PrimaryOperationalStatus = $null; OperationalStatus = @()
        }
    })
    $machine
}

function Set-VM {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, Mandatory)] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Nullable[long]] $ProcessorCount, [switch] $DynamicMemory, [switch] $StaticMemory,
        [Nullable[long]] $MemoryMinimumBytes, [Nullable[long]] $MemoryMaximumBytes,
        [Nullable[long]] $MemoryStartupBytes,
        [Nullable[Microsoft.HyperV.PowerShell.StartAction]] $AutomaticStartAction,
        [Nullable[Microsoft.HyperV.PowerShell.StopAction]] $AutomaticStopAction, [Nullable[int]] $AutomaticStartDelay,
        [Nullable[bool]] $AutomaticCheckpointsEnabled,
        [Nullable[Microsoft.HyperV.PowerShell.CheckpointType]] $CheckpointType,
        [Nullable[bool]] $GuestControlledCacheTypes, [Nullable[uint32]] $LowMemoryMappedIoSpace,
        [Nullable[uint64]] $HighMemoryMappedIoSpace,
        [string] $Notes, [string] $NewVMName, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        $bound = $PSBoundParameters
        foreach ($machine in Get-Given $bound) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Set-VM')) { continue }
            $own = $World.Machines | Where-Object { $_.Id -eq $machine.Id }
            $needOff = 'ProcessorCount', 'DynamicMemory', 'StaticMemory', 'MemoryStartupBytes',
                'GuestControlledCacheTypes',
                'LowMemoryMappedIoSpace', 'HighMemoryMappedIoSpace'
            $cold = @($needOff | Where-Object { $bound.ContainsKey($_) })
            if ($cold.Count -gt 0 -and "$($own.State)" -ne 'Off') {
                Write-HyperVError $PSCmdlet 'InvalidState' InvalidOperation (
                    "Failed to modify device '$($cold[0])'. The operation cannot be performed while the virtual " +
                    'machine is in its current state.')
                continue
            }
            $low = if ($bound.ContainsKey('MemoryMinimumBytes')) { $MemoryMinimumBytes } else { $own.MemoryMinimum }
            $high = if ($bound.ContainsKey('MemoryMaximumBytes')) { $MemoryMaximumBytes } else { $own.MemoryMaximum }
            $start = if ($bound.ContainsKey('MemoryStartupBytes')) { $MemoryStartupBytes } else { $own.MemoryStartup }
            $bad = @($low, $high, $start | Where-Object { $_ % 2mb -ne 0 })
            if ($bad.Count -gt 0 -or $low -gt $start -or $start -gt $high) {
                Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified `
                    "Failed to modify device 'Memory'. Invalid memory amounts for '$($own.Name)'."
                continue
            }
            if ($bound.ContainsKey('ProcessorCount') -and $ProcessorCount -gt $World.Host.LogicalProcessorCount) {
                Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified `
                    "Failed to modify device 'Processor'. The number of virtual processors exceeds that of the host."
                continue
            }
            $own.MemoryMinimum, $own.MemoryMaximum, $own.MemoryStartup = $low, $high, $start
            if ($DynamicMemory) { $own.DynamicMemoryEnabled = $true }
            foreach ($field in 'ProcessorCount', 'AutomaticStartAction', 'AutomaticStopAction', 'AutomaticStartDelay',
                'AutomaticCheckpointsEnabled', 'CheckpointType', 'Notes', 'GuestControlledCacheTypes',
                'LowMemoryMappedIoSpace', 'HighMemoryMappedIoSpace') {
                if ($bound.ContainsKey($field)) { $own.$field = $bound[$field] }
            }
            if ($NewVMName -ne '') { $own.Name = $NewVMName }
            if ($Passthru) { $own }
        }
    }
}

$CanStart = 'Off', 'Saved', 'FastSaved', 'Hibernated', 'OffCritical', 'SavedCritical'

function Start-VM {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, Mandatory)] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [switch] $AsJob, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Start-VM')) { continue }
            $own = $World.Machines | Where-Object { $_.Id -eq $machine.Id }
            if ("$($own.State)" -eq 'Running') {
                Write-Warning 'The virtual machine is already in the specified state.'
                continue
            }
            if (-not (Test-State $PSCmdlet $own $CanStart)) { continue }
            if ($own.MemoryStartup -gt $World.MemoryFree) {
                Write-HyperVError $PSCmdlet 'OutOfMemory' NotSpecified (
                    "'$($own.Name)' failed to start. Not enough memory in the system to start the virtual machine " +
                    "$($own.Name) with ram size $($own.MemoryStartup / 1mb) megabytes. Ran out of memory " +
                    '(0x8007000E).')
                continue
            }
            foreach ($drive in $World.Drives[$own.Id]) {
                if (-not (Test-Chain $drive.Path)) {
                    Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified (
                        "'$($own.Name)' failed to start. Attachment '$($drive.Path)' failed to open because of " +
                        "error: $(Get-ChainTrouble $drive.Path).")
                    return
                }
            }
            $World.MemoryFree -= $own.MemoryStartup
            Set-Power $own 'Running'
        }
    }
}

function Set-Power($Machine, [string] $State) {
    # Heartbeat, services, uptime and memory follow the power state.
    $Machine.State = $State
    $runs = $State -in 'Running', 'RunningCritical'
    $Machine.Heartbeat = if ($runs) { 'OkApplicationsUnknown' } else { $null }
    $Machine.Uptime = if ($runs) { [timespan]::FromSeconds(5) } else { [timespan]::Zero }
    $Machine.MemoryAssigned = if ($runs) { $Machine.MemoryStartup } else { 0 }
    foreach ($service in $World.Services[$Machine.Id]) {
        $status = if ($runs -and $service.Enabled) { 'Ok' } else { $null }
        $service.PrimaryOperationalStatus = $status
        $service.OperationalStatus = @($status | Where-Object { $_ })
    }
}

function Stop-VM {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, Mandatory)] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [switch] $Save, [switch] $TurnOff, [switch] $Force, [switch] $AsJob, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) {
            if ($AsJob) { Start-Work { $null } }
            return
        }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Stop-VM')) { continue }
            $own = $World.Machines | Where-Object { $_.Id -eq $machine.Id }
            $hangs = $own.Status -eq 'hangs'
            if ($hangs) {
                $own.State = 'Stopping'
            } elseif ("$($own.State)" -eq 'Off') {
                Write-Warning 'The virtual machine is already in the specified state.'
            } elseif ("$($own.State)" -in 'Saved', 'FastSaved', 'SavedCritical', 'FastSavedCritical') {
                $record = New-Record 'InvalidState' InvalidOperation (
                    "'$($own.Name)' failed to change state. The operation cannot be performed while the object is in " +
                    'its current state.')
                if ($AsJob) {
                    Start-Work { Write-Error -ErrorRecord $args[0] } $record
                } else {
                    $PSCmdlet.WriteError($record)
                }
                continue
            } elseif ($TurnOff) {
                Set-Power $own 'Off'
            } elseif ($Save -and $own.Status -eq 'cannot be saved') {
                $record = New-Record 'OperationFailed' WriteError (
                    "'$($own.Name)' failed to save. There is not enough space on the disk. (0x80070070)")
                if ($AsJob) {
                    Start-Work { Write-Error -ErrorRecord $args[0] } $record
                } else {
                    $PSCmdlet.WriteError($record)
                }
                continue
            } elseif ($Save) {
                Set-Power $own 'Saved'
            }
            if ($AsJob) { Start-Work $(if ($hangs) { { Start-Sleep -Seconds 3600 } } else { { $null } }) }
        }
    }
}

function Start-Work([scriptblock] $Block, $Argument) {
    Start-StandInJob -ScriptBlock $Block -ArgumentList @(, $Argument)
}

function Resume-VM {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, Mandatory)] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [switch] $AsJob, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Resume-VM')) { continue }
            $own = $World.Machines | Where-Object { $_.Id -eq $machine.Id }
            if (Test-State $PSCmdlet $own @('Paused', 'PausedCritical')) { Set-Power $own 'Running' }
        }
    }
}

function Remove-VM {
    [CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High', DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, Mandatory)] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [switch] $Force, [switch] $AsJob, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not ($Force -or $PSCmdlet.ShouldProcess($machine.Name, 'Remove-VM'))) { continue }
            $own = $World.Machines | Where-Object { $_.Id -eq $machine.Id }
            if (-not (Test-State $PSCmdlet $own $CanStart)) { continue }
            $World.Machines.Remove($own) | Out-Null
            foreach ($snapshot in @($World.Snapshots | Where-Object { $_.VMId -eq $own.Id })) {
                $World.Snapshots.Remove($snapshot) | Out-Null
            }
            $file = "$($own.Path)\Virtual Machines\$($own.Id).vmcx"
            if (Test-Path -LiteralPath $file) { Remove-Item -LiteralPath $file -WhatIf:$false -Confirm:$false }
        }
    }
}

function Remove-VMSavedState {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMObject')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Remove-VMSavedState')) { continue }
            $own = $World.Machines | Where-Object { $_.Id -eq $machine.Id }
            if (Test-State $PSCmdlet $own @('Saved', 'FastSaved', 'SavedCritical', 'FastSavedCritical')) {
                Set-Power $own 'Off'
            }
        }
    }
}

# ---------------------------------------------------------------------------------------------------------- checkpoints

$Kept = 'ProcessorCount', 'MemoryStartup', 'MemoryMinimum', 'MemoryMaximum', 'DynamicMemoryEnabled', 'Notes',
    'CheckpointType', 'AutomaticCheckpointsEnabled', 'AutomaticStartAction', 'AutomaticStartDelay', 'AutomaticStopAction'

function Get-VMSnapshot {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(Position = 1)] [string] $Name
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not (Test-Exists $PSCmdlet $machine)) { continue }
            $World.Snapshots.ToArray() | Where-Object {
                $_.VMId -eq $machine.Id -and ($Name -eq '' -or $_.Name -like $Name)
            }
        }
    }
}

function Checkpoint-VM {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, Mandatory)] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(Position = 1)] [string] $SnapshotName, [switch] $AsJob, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Checkpoint-VM')) { continue }
            $own = $World.Machines | Where-Object { $_.Id -eq $machine.Id }
            if ("$($own.CheckpointType)" -eq 'Disabled') {
                Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified `
                    "Checkpoint operation failed. Checkpoints have been disabled for '$($own.Name)'."
                continue
            }
            $World.Clock = $World.Clock.AddMinutes(1)
            $settings = [System.Collections.Generic.Dictionary[string, object]]::new()
            foreach ($field in $Kept) { $settings[$field] = $own.$field }
            $disks = [System.Collections.Generic.List[string]]::new()
            foreach ($drive in $World.Drives[$own.Id]) {
                $disks.Add($drive.Path)
                $new = ($drive.Path -replace '(_[0-9A-F-]{36})?\.a?vhdx$', '') +
                    "_$("$([guid]::NewGuid())".ToUpper()).avhdx"
                Write-Disk $new $drive.Path
                $drive.Path = $new
            }
            $state = if ("$($own.State)" -in 'Running', 'Paused') { 'Saved' } else { 'Off' }
            $snapshot = [Microsoft.HyperV.PowerShell.VMSnapshot] @{
                Id = [guid]::NewGuid()
                Name = $(if ($SnapshotName -ne '') { $SnapshotName } else { "$($own.Name) - ($($World.Clock))" })
                VMName = $own.Name; VMId = $own.Id; CreationTime = $World.Clock; State = $state
            }
            $snapshot.Settings = $settings
            $snapshot.Disks = $disks
            $World.Snapshots.Add($snapshot)
            if ($Passthru) { $snapshot }
        }
    }
}

function Restore-VMSnapshot {
    [CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High', DefaultParameterSetName = 'SnapshotName')]
    param(
        [Parameter(ParameterSetName = 'SnapshotName', Position = 0, Mandatory)] [string] $Name,
        [Parameter(ParameterSetName = 'SnapshotObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot,
        [switch] $AsJob, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        if (-not $PSCmdlet.ShouldProcess($VMSnapshot.Name, 'Restore-VMSnapshot')) { return }
        $own = $World.Machines | Where-Object { $_.Id -eq $VMSnapshot.VMId }
        # A checkpoint holds the settings of its machine.
        foreach ($field in $Kept) { $own.$field = $VMSnapshot.Settings[$field] }
        $drives = $World.Drives[$own.Id]
        for ($i = 0; $i -lt $drives.Count; $i++) {
            $old = $drives[$i].Path
            $new = ($VMSnapshot.Disks[$i] -replace '(_[0-9A-F-]{36})?\.a?vhdx$', '') +
                "_$("$([guid]::NewGuid())".ToUpper()).avhdx"
            Write-Disk $new $VMSnapshot.Disks[$i]
            $drives[$i].Path = $new
            if ($old -like '*.avhdx' -and (Test-Path -LiteralPath $old)) {
                Remove-Item -LiteralPath $old -WhatIf:$false -Confirm:$false
            }
        }
        Set-Power $own "$($VMSnapshot.State)"
    }
}

function Merge-Disks([guid] $MachineId) {
    # A file that no checkpoint needs is merged into its parent: at once here, in the background on Hyper-V.
    $needed = @($World.Snapshots | Where-Object { $_.VMId -eq $MachineId } | ForEach-Object { $_.Disks })
    foreach ($drive in $World.Drives[$MachineId]) {
        while ($drive.Path -like '*.avhdx') {
            $parent = [System.IO.File]::ReadAllLines($drive.Path)[1]
            if ($parent -in $needed) { break }
            Remove-Item -LiteralPath $drive.Path -Force -WhatIf:$false -Confirm:$false
            $drive.Path = $parent
        }
    }
}

function Remove-VMSnapshot {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'SnapshotName')]
    param(
        [Parameter(ParameterSetName = 'SnapshotName', Position = 0, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 1)] [string[]] $Name,
        [Parameter(ParameterSetName = 'SnapshotObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VMSnapshot[]] $VMSnapshot,
        [switch] $IncludeAllChildSnapshots, [switch] $AsJob, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($snapshot in $VMSnapshot) {
            if (-not $PSCmdlet.ShouldProcess($snapshot.Name, 'Remove-VMSnapshot')) { continue }
            $World.Snapshots.Remove(($World.Snapshots | Where-Object { $_.Id -eq $snapshot.Id })) | Out-Null
            Merge-Disks $snapshot.VMId
        }
    }
}

# ---------------------------------------------------------------------------------------------------------------- disks

function Write-Disk([string] $Path, [string] $Parent) {
    # A disk is a text file with the path of its parent.
    [System.IO.File]::WriteAllText($Path, "vhdx`n$Parent")
}

function Test-Chain([string] $Path) {
    while ($Path -ne '') {
        if (-not (Test-Path -LiteralPath $Path)) { return $false }
        $lines = [System.IO.File]::ReadAllLines($Path)
        if ($lines.Count -eq 0 -or $lines[0] -ne 'vhdx') { return $false }
        $Path = if ($lines.Count -gt 1) { $lines[1] } else { '' }
    }
    return $true
}

function Get-ChainTrouble([string] $Path) {
    if (-not (Test-Path -LiteralPath $Path)) { return 'The system cannot find the file specified. (0x80070002)' }
    $lines = [System.IO.File]::ReadAllLines($Path)
    if ($lines.Count -eq 0 -or $lines[0] -ne 'vhdx') {
        return 'The file or directory is corrupted and unreadable. (0x80070570)'
    }
    'The chain of virtual hard disks is inaccessible. The process has not been granted access rights to the parent ' +
        'virtual hard disk, or it is not there. (0xC03A000D)'
}

function Get-VHD {
    [CmdletBinding(DefaultParameterSetName = 'Path')]
    param(
        [Parameter(ParameterSetName = 'Path', Position = 0, Mandatory, ValueFromPipeline,
            ValueFromPipelineByPropertyName)]
        [Alias('FullName')] [ValidateNotNullOrEmpty()] [string[]] $Path
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($one in $Path) {
            if (-not (Test-Path -LiteralPath $one)) {
                Write-HyperVError $PSCmdlet 'ObjectNotFound' ObjectNotFound `
                    "'$one' cannot be opened. The system cannot find the file specified. (0x80070002)"
                continue
            }
            if (-not (Test-Chain $one)) {
                Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified `
                    "Getting the mounted storage instance for the path '$one' failed. $(Get-ChainTrouble $one)"
                continue
            }
            $lines = [System.IO.File]::ReadAllLines($one)
            $parent = if ($lines.Count -gt 1) { $lines[1] } else { '' }
            [Microsoft.Vhd.PowerShell.VirtualHardDisk] @{
                Path = $one; ParentPath = $parent; VhdFormat = 'VHDX'; Size = 60gb
                FileSize = (Get-Item -LiteralPath $one -Force).Length
                VhdType = $(if ($parent -ne '') { 'Differencing' } else { 'Dynamic' })
            }
        }
    }
}

function New-VHD {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'DynamicWithoutSource')]
    param(
        [Parameter(Position = 0, Mandatory, ValueFromPipelineByPropertyName)]
        [ValidateNotNullOrEmpty()] [string[]] $Path,
        [Parameter(ParameterSetName = 'DynamicWithoutSource', Position = 1, Mandatory)] [uint64] $SizeBytes,
        [Parameter(ParameterSetName = 'Differencing', Position = 1, Mandatory)]
        [ValidateNotNullOrEmpty()] [string] $ParentPath,
        [Parameter(ParameterSetName = 'Differencing')] [switch] $Differencing,
        [Parameter(ParameterSetName = 'DynamicWithoutSource')] [switch] $Dynamic
    )
    if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
    foreach ($one in $Path) {
        if (-not $PSCmdlet.ShouldProcess($one, 'New-VHD')) { continue }
        if (Test-Path -LiteralPath $one) {
            Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified (
                "Failed to create the virtual hard disk. The system failed to create '$one': The file exists. " +
                '(0x80070050).')
            continue
        }
        if (-not (Test-Path -LiteralPath (Split-Path -Parent $one))) {
            Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified (
                "Failed to create the virtual hard disk. The system failed to create '$one': The system cannot " +
                'find the path specified. (0x80070003).')
            continue
        }
        Write-Disk $one $ParentPath
        Get-VHD -Path $one
    }
}

function Get-VMHardDiskDrive {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'VMSnapshot', Position = 0, Mandatory, ValueFromPipeline)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        if ($PSBoundParameters.ContainsKey('VMSnapshot')) {
            foreach ($disk in $VMSnapshot.Disks) {
                [Microsoft.HyperV.PowerShell.HardDiskDrive] @{
                    VMName = $VMSnapshot.VMName; VMId = $VMSnapshot.VMId; Path = $disk
                }
            }
            return
        }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (Test-Exists $PSCmdlet $machine) { $World.Drives[$machine.Id].ToArray() }
        }
    }
}

# --------------------------------------------------------------------------------------------------------------- guests

function Get-VMIntegrationService {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(Position = 1)] [string[]] $Name
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            $World.Services[$machine.Id] | Where-Object { $null -eq $Name -or $_.Name -in $Name }
        }
    }
}

function Enable-VMIntegrationService {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 1, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMIntegrationService', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VMIntegrationComponent[]] $VMIntegrationService,
        [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($service in $VMIntegrationService) {
            if (-not $PSCmdlet.ShouldProcess($service.Name, 'Enable-VMIntegrationService')) { continue }
            $service.Enabled = $true
            $machine = $World.Machines | Where-Object { $_.Id -eq $service.VMId }
            if ("$($machine.State)" -eq 'Running') {
                $service.PrimaryOperationalStatus = 'Ok'
                $service.OperationalStatus = @('Ok')
            }
        }
    }
}

function Copy-VMFile {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, Mandatory)] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(Position = 1, Mandatory)] [string] $SourcePath,
        [Parameter(Position = 2, Mandatory)] [string] $DestinationPath,
        [Parameter(Position = 3, Mandatory)] [Microsoft.HyperV.PowerShell.CopyFileSourceType] $FileSource,
        [switch] $CreateFullPath, [switch] $Force, [switch] $AsJob
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Copy-VMFile')) { continue }
            $service = $World.Services[$machine.Id] | Where-Object { $_.Id -like "*$GuestService" }
            if (-not $service.Enabled -or "$($service.PrimaryOperationalStatus)" -ne 'Ok') {
                Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified (
                    'Failed to initiate copying files to the guest. The Guest Service Interface is not available ' +
                    '(0x80070032).')
                continue
            }
            # Drive C: of the guest is a folder of this computer.
            $target = "C:\farm-tests\guest\$($machine.Name)\" + $DestinationPath.Substring(3)
            if ((Test-Path -LiteralPath $target) -and -not $Force) {
                Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified `
                    'Failed to initiate copying files to the guest: The file exists. (0x80070050)'
                continue
            }
            New-Item -ItemType Directory -Force -Path (Split-Path -Parent $target) -WhatIf:$false -Confirm:$false |
                Out-Null
            [System.IO.File]::Copy($SourcePath, $target, $true)
        }
    }
}

function Get-VMNetworkAdapter {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (Test-Exists $PSCmdlet $machine) { $World.Adapters[$machine.Id] }
        }
    }
}

# ----------------------------------------------------------------------------------------------------- virtual hardware

function Test-Off($Cmdlet, $Machine, [string] $What) {
    if ("$($Machine.State)" -eq 'Off') { return $true }
    Write-HyperVError $Cmdlet 'InvalidState' InvalidOperation (
        "Failed to modify device '$What'. The operation cannot be performed while the virtual machine is in its " +
        'current state.')
    return $false
}

function Get-VMVideo {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (Test-Exists $PSCmdlet $machine) { $World.Videos[$machine.Id] }
        }
    }
}

function Set-VMVideo {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(Position = 1)] [Nullable[Microsoft.HyperV.PowerShell.ResolutionType]] $ResolutionType,
        [Parameter(Position = 2)] [Nullable[uint16]] $HorizontalResolution,
        [Parameter(Position = 3)] [Nullable[uint16]] $VerticalResolution,
        [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Set-VMVideo')) { continue }
            if (-not (Test-Off $PSCmdlet $machine 'Video')) { continue }
            foreach ($field in 'ResolutionType', 'HorizontalResolution', 'VerticalResolution') {
                if ($PSBoundParameters.ContainsKey($field)) {
                    $World.Videos[$machine.Id].$field = $PSBoundParameters[$field]
                }
            }
        }
    }
}

function Get-VMFirmware {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not (Test-Exists $PSCmdlet $machine)) { continue }
            if ($machine.Generation -ne 2) {
                Write-HyperVError $PSCmdlet 'InvalidParameter' InvalidArgument `
                    "Generation 1 virtual machines do not support the Get-VMFirmware cmdlet."
                continue
            }
            $World.Firmwares[$machine.Id]
        }
    }
}

function Set-VMFirmware {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [object[]] $BootOrder, [object] $FirstBootDevice,
        [Nullable[Microsoft.HyperV.PowerShell.OnOffState]] $EnableSecureBoot, [string] $SecureBootTemplate,
        [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Set-VMFirmware')) { continue }
            if (-not (Test-Off $PSCmdlet $machine 'Firmware')) { continue }
            $own = $World.Firmwares[$machine.Id]
            if ($PSBoundParameters.ContainsKey('SecureBootTemplate')) {
                if ($SecureBootTemplate -notin 'MicrosoftWindows', 'MicrosoftUEFICertificateAuthority',
                    'OpenSourceShieldedVM') {
                    Write-HyperVError $PSCmdlet 'InvalidParameter' InvalidArgument `
                        "Invalid secure boot template '$SecureBootTemplate'."
                    continue
                }
                $own.SecureBootTemplate = $SecureBootTemplate
            }
            if ($PSBoundParameters.ContainsKey('EnableSecureBoot')) { $own.SecureBoot = $EnableSecureBoot }
            if ($PSBoundParameters.ContainsKey('FirstBootDevice')) { $own.BootOrder = @($FirstBootDevice) }
        }
    }
}

function Get-VMSecurity {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (Test-Exists $PSCmdlet $machine) { $World.Securities[$machine.Id] }
        }
    }
}

function Set-VMKeyProtector {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [byte[]] $KeyProtector, [switch] $NewLocalKeyProtector, [switch] $RestoreLastKnownGoodKeyProtector,
        [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Set-VMKeyProtector')) { continue }
            if (-not (Test-Off $PSCmdlet $machine 'KeyProtector')) { continue }
            $World.Securities[$machine.Id].KeyProtector = if ($NewLocalKeyProtector) {
                [guid]::NewGuid().ToByteArray()
            } else { $KeyProtector }
        }
    }
}

function Enable-VMTPM {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Enable-VMTPM')) { continue }
            if (-not (Test-Off $PSCmdlet $machine 'TPM')) { continue }
            if ($null -eq $World.Securities[$machine.Id].KeyProtector) {
                Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified `
                    "Cannot modify the selected security settings of '$($machine.Name)': it has no key protector."
                continue
            }
            $World.Securities[$machine.Id].TpmEnabled = $true
        }
    }
}

function Get-VMProcessor {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not (Test-Exists $PSCmdlet $machine)) { continue }
            [Microsoft.HyperV.PowerShell.VMProcessor] @{
                VMName = $machine.Name; VMId = $machine.Id; Count = $machine.ProcessorCount
                ExposeVirtualizationExtensions = $World.Nested[$machine.Id]
            }
        }
    }
}

function Set-VMProcessor {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Nullable[long]] $Count, [Nullable[bool]] $ExposeVirtualizationExtensions, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Set-VMProcessor')) { continue }
            if (-not (Test-Off $PSCmdlet $machine 'Processor')) { continue }
            if ($PSBoundParameters.ContainsKey('ExposeVirtualizationExtensions')) {
                $World.Nested[$machine.Id] = $ExposeVirtualizationExtensions
            }
            if ($PSBoundParameters.ContainsKey('Count')) { $machine.ProcessorCount = $Count }
        }
    }
}

$Shares = foreach ($what in 'VRAM', 'Encode', 'Decode', 'Compute') {
    foreach ($which in 'Min', 'Max', 'Optimal') { "${which}Partition$what" }
}

function Get-VMGpuPartitionAdapter {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [string] $AdapterId
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (Test-Exists $PSCmdlet $machine) { $World.Gpus[$machine.Id].ToArray() }
        }
    }
}

function Add-VMGpuPartitionAdapter {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [string] $InstancePath, [switch] $Passthru,
        [uint64] $MinPartitionVRAM, [uint64] $MaxPartitionVRAM, [uint64] $OptimalPartitionVRAM,
        [uint64] $MinPartitionEncode, [uint64] $MaxPartitionEncode, [uint64] $OptimalPartitionEncode,
        [uint64] $MinPartitionDecode, [uint64] $MaxPartitionDecode, [uint64] $OptimalPartitionDecode,
        [uint64] $MinPartitionCompute, [uint64] $MaxPartitionCompute, [uint64] $OptimalPartitionCompute
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Add-VMGpuPartitionAdapter')) { continue }
            if (-not (Test-Off $PSCmdlet $machine 'GPU Partition')) { continue }
            $new = [Microsoft.HyperV.PowerShell.VMGpuPartitionAdapter] @{
                VMName = $machine.Name; VMId = $machine.Id; Id = "Microsoft:$($machine.Id)\$([guid]::NewGuid())"
                InstancePath = $InstancePath
            }
            foreach ($field in $Shares) {
                if ($PSBoundParameters.ContainsKey($field)) { $new.$field = $PSBoundParameters[$field] }
            }
            $World.Gpus[$machine.Id].Add($new)
            if ($Passthru) { $new }
        }
    }
}

function Set-VMGpuPartitionAdapter {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'Object', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VMGpuPartitionAdapter[]] $VMGpuPartitionAdapter,
        [string] $AdapterId, [switch] $Passthru,
        [uint64] $MinPartitionVRAM, [uint64] $MaxPartitionVRAM, [uint64] $OptimalPartitionVRAM,
        [uint64] $MinPartitionEncode, [uint64] $MaxPartitionEncode, [uint64] $OptimalPartitionEncode,
        [uint64] $MinPartitionDecode, [uint64] $MaxPartitionDecode, [uint64] $OptimalPartitionDecode,
        [uint64] $MinPartitionCompute, [uint64] $MaxPartitionCompute, [uint64] $OptimalPartitionCompute
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        $adapters = if ($PSBoundParameters.ContainsKey('VMGpuPartitionAdapter')) {
            $VMGpuPartitionAdapter
        } else { Get-Given $PSBoundParameters | ForEach-Object { $World.Gpus[$_.Id].ToArray() } }
        foreach ($adapter in $adapters) {
            if (-not $PSCmdlet.ShouldProcess($adapter.VMName, 'Set-VMGpuPartitionAdapter')) { continue }
            $machine = $World.Machines | Where-Object { $_.Id -eq $adapter.VMId }
            if (-not (Test-Off $PSCmdlet $machine 'GPU Partition')) { continue }
            foreach ($field in $Shares) {
                if ($PSBoundParameters.ContainsKey($field)) { $adapter.$field = $PSBoundParameters[$field] }
            }
        }
    }
}

function Add-VMDvdDrive {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(Position = 3)] [string] $Path, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) {
            if (-not $PSCmdlet.ShouldProcess($machine.Name, 'Add-VMDvdDrive')) { continue }
            if ($Path -ne '' -and -not (Test-Path -LiteralPath $Path)) {
                Write-HyperVError $PSCmdlet 'OperationFailed' NotSpecified (
                    "Failed to add device 'Virtual CD/DVD Disk'. The system cannot find the file specified. " +
                    '(0x80070002)')
                continue
            }
            $drive = [Microsoft.HyperV.PowerShell.DvdDrive] @{
                VMName = $machine.Name; VMId = $machine.Id; Path = $Path
            }
            $World.Dvds[$machine.Id].Add($drive)
        }
    }
}

function Get-VMDvdDrive {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory, ValueFromPipeline)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($machine in Get-Given $PSBoundParameters) { $World.Dvds[$machine.Id].ToArray() }
    }
}

function Set-VMDvdDrive {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'Object', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.DvdDrive[]] $VMDvdDrive,
        [Parameter(Position = 3)] [string] $Path, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($drive in $VMDvdDrive) {
            if ($PSCmdlet.ShouldProcess($drive.VMName, 'Set-VMDvdDrive')) { $drive.Path = $Path }
        }
    }
}

function Set-VMHardDiskDrive {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'Object', Position = 0, Mandatory, ValueFromPipeline)]
        [Microsoft.HyperV.PowerShell.HardDiskDrive[]] $VMHardDiskDrive,
        [Parameter(Position = 4)] [string] $Path, [switch] $Passthru
    )
    process {
        if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
        foreach ($drive in $VMHardDiskDrive) {
            if ($PSCmdlet.ShouldProcess($drive.VMName, 'Set-VMHardDiskDrive')) { $drive.Path = $Path }
        }
    }
}

# ------------------------------------------------------------------------------------------------------------- the host

function Get-VMSwitch {
    [CmdletBinding(DefaultParameterSetName = 'Name')]
    param([Parameter(Position = 0)] [string] $Name, [Microsoft.HyperV.PowerShell.VMSwitchType[]] $SwitchType)
    if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
    $World.Switches | Where-Object { $Name -eq '' -or $_.Name -like $Name }
}

function New-VMSwitch {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'NetAdapterName')]
    param(
        [Parameter(Position = 0, Mandatory)] [string] $Name,
        [Parameter(ParameterSetName = 'SwitchType', Mandatory)] [Microsoft.HyperV.PowerShell.VMSwitchType] $SwitchType,
        [Parameter(ParameterSetName = 'NetAdapterName', Mandatory)] [string[]] $NetAdapterName
    )
    if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
    if (-not $PSCmdlet.ShouldProcess($Name, 'New-VMSwitch')) { return }
    New-Switch $Name "$SwitchType"
    $World.Switches[$World.Switches.Count - 1]
}

function Get-VMHost {
    [CmdletBinding()]
    param([string[]] $ComputerName)
    if (-not (Enter-Cmdlet $PSCmdlet $PSBoundParameters)) { return }
    $World.Host
}

Reset-HyperV
Export-ModuleMember -Function '*-VM*', '*-VHD', '*-HyperV*'
