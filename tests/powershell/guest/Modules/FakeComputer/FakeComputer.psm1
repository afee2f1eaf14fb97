# The computer that all stand-ins read and change. One object for the process, so that the runspace of the guest and the
# script use the same one. A test gets it from Get-FakeComputer and sets what it needs.
Import-Module "$PSScriptRoot\..\..\..\Jobs.psm1"

# The registry of the scripts. Each process has its own key, so that several may run at once.
$script:root = "Registry::HKEY_CURRENT_USER\Software\FarmTests-$PID"

function Get-FakeComputer { [AppDomain]::CurrentDomain.GetData('farm-tests-computer') }

function New-FakeComputer {
    # A Windows 11 Pro in a virtual machine after its installation, with a user `player` and an administrator.
    $me = [System.Security.Principal.WindowsIdentity]::GetCurrent()
    $computer = @{
        users = [System.Collections.ArrayList]@(
            @{ Name = $env:USERNAME; SID = "$($me.User)"; Enabled = $true; Password = 'me'; NeverExpires = $true }
            @{
                Name = 'farm'; SID = 'S-1-5-21-11-22-33-1001'; Enabled = $true; Password = 'right'; NeverExpires = $true
            }
            @{ Name = 'player'; SID = 'S-1-5-21-11-22-33-1002'; Enabled = $true; Password = 'p'; NeverExpires = $true }
        )
        administrators = [System.Collections.ArrayList]@("$($me.User)", 'S-1-5-21-11-22-33-1001')
        administratorsUnknown = $false  # the group has a member that does not exist any more
        passwordMinimum = 0
        tasks = [System.Collections.ArrayList]@()
        programFails = $false        # the program of a task ends at once
        taskDenied = $false          # the task scheduler denies access
        taskStopLooks = 0            # calls of Get-ScheduledTask in which a stopped task still runs; -1: all
        loggedOn = [System.Collections.ArrayList]@('S-1-5-21-11-22-33-1002')
        shares = [System.Collections.ArrayList]@()
        shareDenied = $false
        firewall = [System.Collections.ArrayList]@(
            @{ Name = 'FPS-SMB-In-TCP'; DisplayName = 'File and Printer Sharing (SMB-In)'; Enabled = 'False'
                Direction = 'Inbound'; Action = 'Allow'; Profile = 'Private'; Protocol = 'TCP'; LocalPort = @('445')
                RemoteAddress = @('LocalSubnet') }
            @{ Name = 'CoreNet-DHCP-In'; DisplayName = 'DHCP'; Enabled = 'True'; Direction = 'Inbound'; Action = 'Allow'
                Profile = 'Any'; Protocol = 'UDP'; LocalPort = @('68'); RemoteAddress = @('Any') }
            @{ Name = 'Game'; DisplayName = 'a game'; Enabled = 'False'; Direction = 'Inbound'; Action = 'Allow'
                Profile = 'Any'; Protocol = 'TCP'; LocalPort = @('80', '445'); RemoteAddress = @('Any') }
        )
        firewallDenied = $false
        adapters = [System.Collections.ArrayList]@(
            @{ Name = 'Ethernet'; ifIndex = 7; InterfaceDescription = 'Microsoft Hyper-V Network Adapter'; Status = 'Up'
                Virtual = $false }
        )
        addresses = [System.Collections.ArrayList]@(
            @{ InterfaceIndex = 1; IPAddress = '127.0.0.1'; PrefixLength = 8; PrefixOrigin = 'WellKnown' }
            @{ InterfaceIndex = 7; IPAddress = '169.254.10.20'; PrefixLength = 16; PrefixOrigin = 'WellKnown' }
        )
        routes = [System.Collections.ArrayList]@(
            @{ InterfaceIndex = 7; DestinationPrefix = '224.0.0.0/4'; NextHop = '0.0.0.0'; Dhcp = $false }
        )
        dhcp = @{ '7' = 'Enabled' }
        addressDenied = $false       # New-NetIPAddress fails
        profiles = [System.Collections.ArrayList]@(
            @{
                Name = 'Unidentified network'; InterfaceAlias = 'Ethernet'; InterfaceIndex = 7
                NetworkCategory = 'Public'
            }
        )
        defender = 'on'              # on, off
        exclusions = [System.Collections.ArrayList]@()
        power = @{
            language = 'en'; high = $true; active = 'balanced'; hibernate = 'possible'; failing = @()
            'standby-timeout-ac' = 1800; 'standby-timeout-dc' = 900
            'monitor-timeout-ac' = 600; 'monitor-timeout-dc' = 300
        }
        icaclsFails = $false
        services = @{ vmicheartbeat = 'Running'; vmicshutdown = 'Running'; vmickvpexchange = 'Running'
            vmicvmsession = 'Running'; vmicguestinterface = 'Running'; vmictimesync = 'Running' }
        cim = @{
            Win32_OperatingSystem = @(@{
                ProductType = [uint32] 1; BuildNumber = '22631'; Caption = 'Microsoft Windows 11 Pro'
            })
            SoftwareLicensingProduct = @(@{ LicenseStatus = [uint32] 1 })
            Win32_ComputerSystem = @(@{ UserName = "$env:COMPUTERNAME\player" })
            Win32_VideoController = @(@{ Name = 'Microsoft Hyper-V Video'; PNPDeviceID = 'VMBUS\{DA0A7802}'
                ConfigManagerErrorCode = [uint32] 0; CurrentHorizontalResolution = [uint32] 1280
                CurrentVerticalResolution = [uint32] 720 })
        }
        secureBoot = 'True'          # True, False, BIOS
        acl = @{}
        machines = [System.Collections.ArrayList]@(
            @{ Name = 'vm-1'; Id = [guid] '11111111-2222-3333-4444-555555555555'; State = 'Running' }
        )
        vmProblem = ''               # denied, other: the error of Get-VM
        guest = 'answers'            # answers, silent, silent after 1
        bootFailures = 0             # calls that fail before the guest answers
        restartFails = $false
        logFails = @()               # event logs that cannot be cleared
        atShutdown = $null           # tasks and files when the shutdown was requested
        # enabled: an idle task runs at the next Get-ScheduledTask; always: after Enable-ScheduledTask as well
        repeats = ''
        changes = [System.Collections.ArrayList]@()  # every change, in order
        guestCalls = 0
        python = @{ lines = @(); exit = 0; args = @() }
    }
    [AppDomain]::CurrentDomain.SetData('farm-tests-computer', $computer)
    if (Microsoft.PowerShell.Management\Test-Path -LiteralPath $script:root) {
        Microsoft.PowerShell.Management\Remove-Item -LiteralPath $script:root -Recurse -Force -Confirm:$false
    }
    $hive = "$script:root\HKEY_USERS\S-1-5-21-11-22-33-1002\Control Panel\Desktop"
    $tcp = "$script:root\HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters"
    $names = "$script:root\HKLM\SYSTEM\CurrentControlSet\Control\ComputerName"
    foreach ($key in $hive, $tcp, "$names\ComputerName", "$names\ActiveComputerName") {
        $null = Microsoft.PowerShell.Management\New-Item -Path $key -Force
    }
    Set-RealValue $hive ScreenSaveActive '1'
    foreach ($pair in @('Software\Microsoft\Windows\CurrentVersion\Run', 'OneDrive', 'OneDrive.exe /background'),
        @('Control Panel\Accessibility\StickyKeys', 'Flags', '510')) {
        $key = "$script:root\HKEY_USERS\S-1-5-21-11-22-33-1002\$($pair[0])"
        $null = Microsoft.PowerShell.Management\New-Item -Path $key -Force
        Set-RealValue $key $pair[1] $pair[2]
    }
    foreach ($name in 'Hostname', 'NV Hostname') {
        Set-RealValue $tcp $name $env:COMPUTERNAME
    }
    foreach ($key in 'ComputerName', 'ActiveComputerName') {
        Set-RealValue "$names\$key" ComputerName $env:COMPUTERNAME
    }
    $computer
}

function Set-RealValue([string] $Key, [string] $Name, $Value, [string] $Type = 'String') {
    Microsoft.PowerShell.Management\Set-ItemProperty -LiteralPath $Key -Name $Name -Value $Value -Type $Type
}

function Get-FakeComputerText {
    # What a script may change, as text to compare.
    $computer = Get-FakeComputer
    $part = @{}
    foreach ($key in $computer.Keys) { if ($key -notin 'changes', 'guestCalls') { $part[$key] = $computer[$key] } }
    $values = @(Microsoft.PowerShell.Management\Get-ChildItem -LiteralPath $script:root -Recurse | ForEach-Object {
        $key = $_
        "$($key.Name)"
        foreach ($name in $key.GetValueNames()) {
            "$($key.Name)!$name=$($key.GetValue($name)) ($($key.GetValueKind($name)))"
        }
    } | Sort-Object)
    $keys = @($part.Keys | Sort-Object)
    (@($keys | ForEach-Object { "$_ $(ConvertTo-Sorted $part[$_])" }) + $values) -join "`n"
}

function ConvertTo-Sorted($Value) {
    # As text with sorted names.
    if ($null -eq $Value) { return 'null' }
    if ($Value -is [System.Collections.IDictionary]) {
        return '{' + (@($Value.Keys | Sort-Object |
            ForEach-Object { "${_}: $(ConvertTo-Sorted $Value[$_])" }) -join ', ') + '}'
    }
    if ($Value -is [System.Collections.IList]) {
        return '[' + (@($Value | ForEach-Object { ConvertTo-Sorted $_ }) -join ', ') + ']'
    }
    if ($Value -is [System.Management.Automation.PSCustomObject]) {
        return '{' + (@($Value.PSObject.Properties | Sort-Object -Property Name |
            ForEach-Object { "$($_.Name): $(ConvertTo-Sorted $_.Value)" }) -join ', ') + '}'
    }
    "$Value"
}

function Add-Change([string] $What) { $null = (Get-FakeComputer).changes.Add($What) }

function Write-CdxmlError($Cmdlet, [string] $Id, [string] $Category, [string] $Message) {
    # A CDXML command is a function of a script module: it reads the global $ErrorActionPreference, not the caller's.
    $exception = [System.InvalidOperationException]::new($Message)
    $Cmdlet.WriteError([System.Management.Automation.ErrorRecord]::new($exception, $Id, $Category, $null))
}

function Write-BinaryError($Cmdlet, [string] $Id, [string] $Category, [System.Exception] $Exception) {
    # A compiled cmdlet reads the caller's $ErrorActionPreference.
    $ErrorActionPreference = $Cmdlet.GetVariableValue('ErrorActionPreference')
    $Cmdlet.WriteError([System.Management.Automation.ErrorRecord]::new($Exception, $Id, $Category, $null))
}

# --- registry: real, below a key of the tests ------------------------------------------------------------------------

function ConvertTo-FakePath([string] $Path) {
    if ($Path -match '^HKLM:\\(.*)$') { return "$script:root\HKLM\$($Matches[1])" }
    if ($Path -match '^(?:Microsoft\.PowerShell\.Core\\)?Registry::HKEY_USERS\\(.*)$') {
        return "$script:root\HKEY_USERS\$($Matches[1])"
    }
    $Path
}

function Test-Path {
    [CmdletBinding(DefaultParameterSetName = 'Path')]
    param(
        [Parameter(Mandatory, Position = 0, ParameterSetName = 'Path', ValueFromPipeline)] [string[]] $Path,
        [Parameter(Mandatory, ParameterSetName = 'LiteralPath', ValueFromPipelineByPropertyName)]
        [Alias('PSPath')] [string[]] $LiteralPath,
        [Microsoft.PowerShell.Commands.TestPathType] $PathType, [switch] $IsValid
    )
    process {
        $rest = @{} + $PSBoundParameters
        foreach ($one in 'Path', 'LiteralPath') {
            if ($rest.ContainsKey($one)) { $rest[$one] = @($rest[$one] | ForEach-Object { ConvertTo-FakePath $_ }) }
        }
        Microsoft.PowerShell.Management\Test-Path @rest
    }
}

function New-Item {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0)] [string[]] $Path, [Alias('Type')] [string] $ItemType, [object] $Value,
        [switch] $Force
    )
    if (-not $PSBoundParameters.ContainsKey('ErrorAction')) {
        $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference')
    }
    Add-Change "New-Item $Path"
    $rest = @{} + $PSBoundParameters
    $rest.Path = @($Path | ForEach-Object { ConvertTo-FakePath $_ })
    Microsoft.PowerShell.Management\New-Item @rest
}

function Set-ItemProperty {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory)] [string] $LiteralPath, [Parameter(Mandatory)] [string] $Name,
        [Parameter(Mandatory)] [AllowNull()] [AllowEmptyString()] $Value, [Microsoft.Win32.RegistryValueKind] $Type
    )
    $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference')
    Add-Change "Set-ItemProperty $LiteralPath $Name"
    Set-RealValue (ConvertTo-FakePath $LiteralPath) $Name $Value $Type
}

function Get-ItemProperty {
    [CmdletBinding()] param([Parameter(Mandatory)] [string] $LiteralPath, [string] $Name)
    if (-not $PSBoundParameters.ContainsKey('ErrorAction')) {
        $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference')
    }
    $rest = @{}
    if ($PSBoundParameters.ContainsKey('Name')) { $rest.Name = $Name }
    Microsoft.PowerShell.Management\Get-ItemProperty -LiteralPath (ConvertTo-FakePath $LiteralPath) @rest
}

function Remove-ItemProperty {
    [CmdletBinding(SupportsShouldProcess)]
    param([Parameter(Mandatory)] [string] $LiteralPath, [Parameter(Mandatory)] [string[]] $Name, [switch] $Force)
    $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference')
    if (-not $PSCmdlet.ShouldProcess("$LiteralPath $Name")) { return }
    Add-Change "Remove-ItemProperty $LiteralPath $Name"
    Microsoft.PowerShell.Management\Remove-ItemProperty -LiteralPath (ConvertTo-FakePath $LiteralPath) -Name $Name
}

# --- cmdlets of PowerShell itself that would change or read the real computer ----------------------------------------

function Get-Service {
    [CmdletBinding()] param([Parameter(Mandatory)] [string[]] $Name)
    foreach ($one in $Name) {
        $service = (Get-FakeComputer).services[$one]
        if ($null -ne $service) {
            [pscustomobject]@{ Name = $one; Status = $service }
            continue
        }
        Write-BinaryError $PSCmdlet 'NoServiceFoundForGivenName' ObjectNotFound (
            [System.InvalidOperationException]::new("Cannot find any service with service name '$one'."))
    }
}

function Rename-Computer {
    [CmdletBinding(SupportsShouldProcess)]
    param([Parameter(Mandatory, Position = 0)] [ValidateNotNullOrEmpty()] [string] $NewName, [switch] $Force)
    $key = "$script:root\HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters"
    $now = (Microsoft.PowerShell.Management\Get-ItemProperty -LiteralPath $key).Hostname
    if ($now -eq $NewName) {
        Write-BinaryError $PSCmdlet 'NewNameIsOldName' InvalidArgument ([System.InvalidOperationException]::new(
            "Skip computer '$now' with new name '$NewName' because the new name is the same as the current name."))
        return
    }
    Add-Change "Rename-Computer $NewName"
    Set-RealValue $key 'NV Hostname' $NewName
    $names = "$script:root\HKLM\SYSTEM\CurrentControlSet\Control\ComputerName\ComputerName"
    Set-RealValue $names ComputerName $NewName.ToUpperInvariant()
    $PSCmdlet.WriteWarning("The changes will take effect after you restart the computer $now.")
}

function Restart-Computer {
    [CmdletBinding(SupportsShouldProcess)] param([switch] $Force)
    if ((Get-FakeComputer).restartFails) {
        Write-BinaryError $PSCmdlet 'RestartcomputerFailed' OperationStopped ([System.InvalidOperationException]::new(
            'Failed to restart the computer localhost with the following error message: Access is denied.'))
        return
    }
    Add-Change 'Restart-Computer'
}

function Stop-Computer {
    [CmdletBinding(SupportsShouldProcess)] param([switch] $Force)
    $computer = Get-FakeComputer
    if ($computer.restartFails) {
        Write-BinaryError $PSCmdlet 'StopComputerException' InvalidOperation ([System.InvalidOperationException]::new(
            'Failed to stop the computer localhost with the following error message: Access is denied.'))
        return
    }
    Add-Change 'Stop-Computer'
    $computer.atShutdown = @{
        tasks = @($computer.tasks | ForEach-Object { "$($_.TaskName) $($_.State) $($_.Settings.Enabled)" })
        files = @(Microsoft.PowerShell.Management\Get-ChildItem -LiteralPath $computer.share -Recurse -Force -File |
            ForEach-Object { $_.FullName.Substring($computer.share.Length) })
    }
}

function wevtutil.exe {
    $global:LASTEXITCODE = 0
    if ($args[1] -in (Get-FakeComputer).logFails) {
        $global:LASTEXITCODE = 5
        return
    }
    Add-Change "wevtutil $args"
}

function Enable-PSRemoting {
    [CmdletBinding(SupportsShouldProcess)] param([switch] $Force, [switch] $SkipNetworkProfileCheck)
    Add-Change 'Enable-PSRemoting'
    $computer = Get-FakeComputer
    # Source: the reference of Disable-PSRemoting, which advises to set it back to 0.
    $key = "$script:root\HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System"
    if (-not (Microsoft.PowerShell.Management\Test-Path -LiteralPath $key)) {
        $null = Microsoft.PowerShell.Management\New-Item -Path $key -Force
    }
    Set-RealValue $key LocalAccountTokenFilterPolicy 1 DWord
    foreach ($name in 'WINRM-HTTP-In-TCP', 'WINRM-HTTP-In-TCP-PUBLIC') {
        if (@($computer.firewall | Where-Object { $_.Name -eq $name }).Count -eq 0) {
            $null = $computer.firewall.Add(@{
                Name = $name; DisplayName = 'Windows Remote Management (HTTP-In)'; Enabled = 'True'
                Direction = 'Inbound'; Action = 'Allow'; Profile = 'Any'; Protocol = 'TCP'; LocalPort = @('5985')
                RemoteAddress = @(if ($name -like '*PUBLIC') { 'LocalSubnet' } else { 'Any' })
            })
        }
    }
    'WinRM has been updated for remote management.'
}

function Get-Acl {
    [CmdletBinding()] param([Parameter(Mandatory)] [string] $LiteralPath)
    if (-not (Microsoft.PowerShell.Management\Test-Path -LiteralPath $LiteralPath)) {
        $words = "Cannot find path '$LiteralPath' because it does not exist."
        Write-BinaryError $PSCmdlet 'GetAcl_PathNotFound_Exception' ObjectNotFound (
            [System.Management.Automation.ItemNotFoundException]::new($words))
        return
    }
    # The rights that icacls.exe set on the folder and its parents.
    $words = ''
    $mark = ''
    $at = $LiteralPath.TrimEnd('\')
    while ($at -match '\\') {
        $one = (Get-FakeComputer).acl[$at.ToLowerInvariant()]
        if ($null -ne $one) {
            foreach ($ace in $one.aces) {
                $mask = [int] [System.Security.AccessControl.FileSystemRights] $ace.rights -bor 0x100000
                $words += '(A;OICI{0};0x{1:x};;;{2})' -f $mark, $mask, $ace.sid
            }
            if ($one.protected) { break }
        }
        $at = $at.Substring(0, $at.LastIndexOf('\'))
        $mark = 'ID'
    }
    $security = [System.Security.AccessControl.DirectorySecurity]::new()
    $security.SetSecurityDescriptorSddlForm("D:$words")
    $security
}

# --- programs --------------------------------------------------------------------------------------------------------

function icacls.exe {
    $computer = Get-FakeComputer
    Add-Change "icacls $args"
    if ($computer.icaclsFails) {
        "$($args[0]): Access is denied."
        'Successfully processed 0 files; Failed processing 1 files'
        $global:LASTEXITCODE = 5
        return
    }
    $path = "$($args[0])".TrimEnd('\').ToLowerInvariant()
    if (-not (Microsoft.PowerShell.Management\Test-Path -LiteralPath $args[0])) {
        "$($args[0]): The system cannot find the file specified."
        $global:LASTEXITCODE = 2
        return
    }
    if (-not $computer.acl.ContainsKey($path)) {
        $computer.acl[$path] = @{ protected = $false; aces = [System.Collections.ArrayList]@() }
    }
    $rights = @{ F = 'FullControl'; M = 'Modify'; RX = 'ReadAndExecute'; R = 'Read'; W = 'Write' }
    $granting = $false
    foreach ($word in @($args)[1..($args.Count)]) {
        if ($word -eq '/inheritance:r') {
            $computer.acl[$path].protected = $true
            $granting = $false
            continue
        }
        if ($word -in '/grant', '/grant:r', '/remove') {
            $granting = $word
            continue
        }
        if ($null -eq $word) { continue }
        if ($granting -eq '/remove' -and $word -match '^\*(S-1-[\d-]+)$') {
            foreach ($ace in @($computer.acl[$path].aces | Where-Object { $_.sid -eq $Matches[1] })) {
                $computer.acl[$path].aces.Remove($ace)
            }
            continue
        }
        if ($granting -like '/grant*' -and $word -match '^(.+):((?:\([A-Z]+\))*)([A-Z]+)$') {
            $who = $Matches[1]
            $right = $rights[$Matches[3]]
            $sid = if ($who -like '`*S-1-*') {
                $who.Substring(1)
            } else {
                (@($computer.users | Where-Object { $_.Name -eq $who }) + @{ SID = '' })[0].SID
            }
            if ($sid -eq '') {
                "${who}: No mapping between account names and security IDs was done."
                $global:LASTEXITCODE = 1332
                return
            }
            if ($granting -eq '/grant:r') {
                foreach ($ace in @($computer.acl[$path].aces | Where-Object { $_.sid -eq $sid })) {
                    $computer.acl[$path].aces.Remove($ace)
                }
            }
            if (@($computer.acl[$path].aces | Where-Object { $_.sid -eq $sid -and $_.rights -eq $right }).Count -eq 0) {
                $null = $computer.acl[$path].aces.Add(@{ sid = $sid; rights = $right })
            }
            continue
        }
        "Invalid parameter `"$word`""
        $global:LASTEXITCODE = 87
        return
    }
    "processed file: $($args[0])"
    'Successfully processed 1 files; Failed processing 0 files'
    $global:LASTEXITCODE = 0
}

function powercfg.exe {
    $power = (Get-FakeComputer).power
    $global:LASTEXITCODE = 0
    switch ($args[0]) {
        '/setactive' {
            if ($args[1] -eq 'SCHEME_MIN' -and -not $power.high) {
                'The power scheme, subgroup or setting specified does not exist.'
                $global:LASTEXITCODE = 1
                return
            }
            Add-Change "powercfg $args"
            $power.active = $args[1]
        }
        '/change' {
            if ($args[1] -in $power.failing) {
                'Invalid Parameters -- try "/?" for help'
                $global:LASTEXITCODE = 1
                return
            }
            Add-Change "powercfg $args"
            $power[$args[1]] = [int] $args[2] * 60
        }
        '/hibernate' {
            if ($power.hibernate -ne 'impossible') {
                Add-Change "powercfg $args"
                return
            }
            'Hibernation failed with the following error: The request is not supported.'
            ''
            'The following items are preventing hibernation on this system.'
            "`tThe system firmware does not support hibernation."
            $global:LASTEXITCODE = 1
        }
        '/query' {
            $name = if ($args[2] -eq 'SUB_SLEEP') { 'standby' } else { 'monitor' }
            if ("$name-query" -in $power.failing) {
                'The power scheme, subgroup or setting specified does not exist.'
                $global:LASTEXITCODE = 1
                return
            }
            $ac = '0x{0:x8}' -f $power["$name-timeout-ac"]
            $dc = '0x{0:x8}' -f $power["$name-timeout-dc"]
            if ($name -eq 'standby') {
                $sub = '238c9fa8-0aad-41ed-83f4-97be242c8f20'
                $set = '29f6c1db-86da-48c5-9fdb-f2b67b1f44da'
            } else {
                $sub = '7516b95f-f776-4464-8c53-06167f40cc99'
                $set = '3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e'
            }
            $oe = [char] 0xf6
            if ($power.language -eq 'de') {
                @"
GUID des Energieschemas: 8c5e7fda-e8bf-4a96-9a85-a6e23a8c635c  (H${oe}chstleistung)
  GUID-Alias: SCHEME_MIN
  GUID der Untergruppe: $sub  (Energie sparen)
    GUID-Alias: $($args[2])
    GUID der Energieeinstellung: $set  (Deaktivierung nach)
      GUID-Alias: $($args[3])
      Minimal m${oe}gliche Einstellung: 0x00000000
      Maximal m${oe}gliche Einstellung: 0xffffffff
      Inkrement m${oe}glicher Einstellungen: 0x00000001
      Einheiten m${oe}glicher Einstellungen: Sekunden
    Index der aktuellen Wechselstromeinstellung: $ac
    Index der aktuellen Gleichstromeinstellung: $dc

"@ -split "`r?`n"
            } else {
                @"
Power Scheme GUID: 8c5e7fda-e8bf-4a96-9a85-a6e23a8c635c  (High performance)
  GUID Alias: SCHEME_MIN
  Subgroup GUID: $sub  (Sleep)
    GUID Alias: $($args[2])
    Power Setting GUID: $set  (Sleep after)
      GUID Alias: $($args[3])
      Minimum Possible Setting: 0x00000000
      Maximum Possible Setting: 0xffffffff
      Possible Settings increment: 0x00000001
      Possible Settings units: Seconds
    Current AC Power Setting Index: $ac
    Current DC Power Setting Index: $dc

"@ -split "`r?`n"
            }
        }
    }
}

# The Python of the installer, called by its path in the current folder. It writes the lines that the test sets.
Microsoft.PowerShell.Management\Set-Item -LiteralPath 'function:script:.\python.exe' -Value {
    $python = (Get-FakeComputer).python
    if (("$args").Length -gt 32700) {
        throw "Program 'python.exe' failed to run: The filename or extension is too long"
    }
    $python.args = @($args)
    $python.at = "$(Get-Location)"
    Add-Change 'python.exe'
    foreach ($line in $python.lines) { $line }
    $global:LASTEXITCODE = $python.exit
}

# --- PowerShell Direct -----------------------------------------------------------------------------------------------

function Get-GuestRunspace {
    $there = [AppDomain]::CurrentDomain.GetData('farm-tests-guest')
    if ($null -eq $there) {
        $there = [runspacefactory]::CreateRunspace()
        $there.Open()
        $prepare = [powershell]::Create()
        $prepare.Runspace = $there
        $null = $prepare.AddScript('
            param($path, $names)
            $env:PSModulePath = $path
            foreach ($name in $names) {
                Import-Module $name -Force -DisableNameChecking -WarningAction SilentlyContinue
            }
        ').AddArgument($env:PSModulePath).AddArgument(@(Get-StandInModule))
        $null = $prepare.Invoke()
        $prepare.Commands.Clear()
        $null = $prepare.AddScript('
            Get-Command -Name "Restart-Computer", "Rename-Computer", "Set-LocalUser", "New-NetIPAddress" |
                ForEach-Object { "$($_.CommandType)" }
        ')
        $kinds = @($prepare.Invoke())
        if (@($kinds | Where-Object { "$_" -eq 'Function' }).Count -ne 4) {
            throw 'stand-ins are missing: the script would change this computer'
        }
        [AppDomain]::CurrentDomain.SetData('farm-tests-guest', $there)
    }
    $there
}

function Get-StandInModule {
    # By the path of the manifest, because some have the name of a real module.
    Microsoft.PowerShell.Management\Get-ChildItem -Path "$PSScriptRoot\..\*\*.psd1" | ForEach-Object { $_.FullName }
}

function Invoke-Command {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory)] [ValidateNotNullOrEmpty()] [guid[]] $VMId,
        [Parameter(Mandatory)] [pscredential] $Credential,
        [switch] $AsJob,
        [Parameter(Mandatory)] [ValidateNotNull()] [scriptblock] $ScriptBlock,
        [object[]] $ArgumentList
    )
    $computer = Get-FakeComputer
    $computer.guestCalls++
    $reply = $computer.guest
    if ($reply -match '^silent after (\d+)$') {
        $reply = if ($computer.guestCalls -gt [int] $Matches[1]) { 'silent' } else { 'answers' }
    }
    if ($computer.guestCalls -le $computer.bootFailures) { $reply = 'boots' }
    if ($reply -eq 'answers') {
        $user = @($computer.users | Where-Object { $_.Name -eq $Credential.UserName })
        if ($user.Count -ne 1 -or $user[0].Password -cne $Credential.GetNetworkCredential().Password) {
            $reply = 'wrong'
        }
    }
    # Arguments cross as text, as in remoting: methods are lost, arrays arrive as ArrayList.
    $sent = [System.Management.Automation.PSSerializer]::Serialize(@($ArgumentList), 1)
    $runspace = Get-GuestRunspace
    Start-StandInJob -ArgumentList $reply, "$ScriptBlock", $sent, $runspace -ScriptBlock {
        param($reply, $text, $sent, $runspace)
        switch ($reply) {
            'silent' { [System.Threading.Thread]::Sleep(30000); return }
            'wrong' { throw 'The credential is invalid.' }
            'boots' {
                throw 'An error has occurred which Windows PowerShell cannot handle. A remote session might have ended.'
            }
        }
        $shell = [powershell]::Create()
        $shell.Runspace = $runspace
        # As in remoting: in the global scope of the guest's session, without the caller's preferences.
        $null = $shell.AddScript('
            $ErrorActionPreference = "Continue"
            $WarningPreference = "Continue"
            Set-StrictMode -Off
        ').Invoke()
        $shell.Commands.Clear()
        $null = $shell.AddScript($text)
        foreach ($one in [System.Management.Automation.PSSerializer]::Deserialize($sent)) {
            $null = $shell.AddArgument($one)
        }
        try { $got = @($shell.Invoke()) } catch { throw $_.Exception.GetBaseException().Message }
        foreach ($one in $shell.Streams.Warning) { Write-Warning -Message $one.Message }
        foreach ($one in $shell.Streams.Error) { Write-Error -Message $one.Exception.Message }
        foreach ($one in $got) {
            $crossing = [System.Management.Automation.PSSerializer]::Serialize($one, 1)
            [System.Management.Automation.PSSerializer]::Deserialize($crossing)
        }
    }
}

Export-ModuleMember -Function *
