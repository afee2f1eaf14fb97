# Shared by the test files of the Hyper-V host: the stand-in modules, calls of a script, and the computer's state before
# and after. A test file reads this in its BeforeAll; $Root is the folder of the checkout.
$scripts = "$Root\hyperv_ops\hyperv\scripts"
$env:COMPUTERNAME = 'HOST'
# Before the modules of Windows, so that no real one is loaded by name on a computer that has it.
$env:PSModulePath = "$PSScriptRoot\Modules;$env:PSModulePath"
foreach ($module in 'CimCmdlets', 'NetTCPIP', 'NetAdapter', 'Hyper-V') {
    Import-Module "$PSScriptRoot\Modules\$module\$module.psm1" -Force -Global
}

# --- the computer ----------------------------------------------------------------------------------------------------

function Clear-TestFolder {
    # Retried: an open handle keeps a file for a moment after its deletion.
    foreach ($attempt in 1..50) {
        if (-not (Test-Path C:\farm-tests)) { return }
        Get-ChildItem C:\farm-tests -Recurse -Force -File | ForEach-Object { $_.IsReadOnly = $false }
        try { Remove-Item C:\farm-tests -Recurse -Force -ErrorAction Stop } catch { Start-Sleep -Milliseconds 100 }
    }
}

function Reset-Host {
    # A host with the switch `farm`, the template C:\farm-tests\templates\game.vhdx and no machine.
    Reset-HyperV
    Reset-Cim
    Reset-NetIP
    Reset-NetAdapters
    Clear-TestFolder
    New-Item -ItemType Directory C:\farm-tests | Out-Null
    New-Template
}

function New-Template([string] $Path = 'C:\farm-tests\templates\game.vhdx') {
    New-Item -ItemType Directory -Force -Path (Split-Path -Parent $Path) | Out-Null
    [System.IO.File]::WriteAllText($Path, "vhdx`n")
}

function New-GoldenMachine {
    # The machine that owns the template.
    $parameters = @{
        Name = 'golden'; Generation = 2; VHDPath = 'C:\farm-tests\templates\game.vhdx'; MemoryStartupBytes = 2gb
        Path = 'C:\farm-tests\golden'
    }
    Hyper-V\New-VM @parameters | Out-Null
}

function New-Child([string] $Path, [string] $Parent) {
    Hyper-V\New-VHD -Path $Path -ParentPath $Parent -Differencing | Out-Null
}

function New-OtherMachine([string] $Name, [string] $Disk, [string] $Path = 'C:\farm-tests\else') {
    Hyper-V\New-VM -Name $Name -VHDPath $Disk -MemoryStartupBytes 1gb -Path $Path | Out-Null
}

function New-GuestMachine {
    # The machine vm-1, running, without a disk.
    Hyper-V\New-VM -Name vm-1 -MemoryStartupBytes 2gb -Path C:\farm-tests\inside | Out-Null
    Hyper-V\Start-VM -VM (Get-TestMachine)
}

function New-PlantedError([string] $Message = 'planted', [string] $Category = 'NotSpecified') {
    # An error for Set-HyperVFault and the methods of WMI.
    [System.Management.Automation.ErrorRecord]::new([System.Exception]::new($Message), 'Planted', $Category, $null)
}

# --- calls of a script -----------------------------------------------------------------------------------------------

function Get-ScriptText([string] $Script) {
    # As script_call.py sends it: a script from text has no folder to load Common.ps1 from.
    $common = [System.IO.File]::ReadAllText("$scripts\Common.ps1")
    [System.IO.File]::ReadAllText("$scripts\$Script.ps1").Replace('. "$PSScriptRoot\Common.ps1"', $common)
}

function Invoke-Script([string] $Script, [hashtable] $Parameters) {
    # As bootstrap.ps1 calls it; the answer as objects.
    $json = @(& ([ScriptBlock]::Create((Get-ScriptText $Script))) @Parameters) -join ''
    # Windows PowerShell writes an array as one object; the parentheses make its elements the output.
    (ConvertFrom-Json -InputObject $json)
}

function New-TestMachine([hashtable] $More = @{}) {
    # Calls New-FarmVM with these parameters, over defaults that make vm-1 from the template.
    $parameters = @{
        Name = 'vm-1'; Template = 'C:\farm-tests\templates\game.vhdx'; Folder = 'C:\farm-tests\farm'; Switch = 'farm'
    }
    foreach ($name in $More.Keys) { $parameters[$name] = $More[$name] }
    Invoke-Script 'New-FarmVM' $parameters
}

function Get-Failure([scriptblock] $Block) {
    try { & $Block | Out-Null } catch { return $_ }
    throw 'no failure'
}

function Get-FailureId([scriptblock] $Block) { (Get-Failure $Block).FullyQualifiedErrorId }

function Get-Difference {
    # The settings in which vm-1 differs from golden, by their names.
    $answer = @(Invoke-Script 'Compare-FarmVM' @{ Name = @('vm-1'); Like = 'golden' })
    $answer[0].differs | ForEach-Object { $_.what }
}

# --- what there is ---------------------------------------------------------------------------------------------------

function Get-TestMachine([string] $Name = 'vm-1') {
    (Get-HyperVWorld).Machines | Where-Object { $_.Name -eq $Name }
}

function Set-MachineState([string] $State, [string] $Name = 'vm-1') {
    # By the cmdlet where there is one, because heartbeat and services come with it.
    $machine = Get-TestMachine $Name
    if ($State -eq 'Running' -and "$($machine.State)" -eq 'Off') {
        Hyper-V\Start-VM -VM $machine -Confirm:$false
    } else {
        $machine.State = $State
    }
}

function Get-HostText {
    # What a script may change, as text to compare.
    $world = Get-HyperVWorld
    $fields = 'Name', 'State', 'CheckpointType', 'Notes', 'ProcessorCount', 'MemoryMinimum'
    $checkpointFields = 'Name', 'CreationTime'
    @{
        machines = @($world.Machines | Select-Object -Property $fields)
        snapshots = @($world.Snapshots | Select-Object -Property $checkpointFields)
        switches = @($world.Switches | Select-Object -Property Name)
        files = @(Get-ChildItem -LiteralPath C:\farm-tests -Recurse -Force |
            ForEach-Object { "$($_.FullName) $($_.Attributes)" })
    } | ConvertTo-Json -Depth 5
}

$changingCmdlets = 'New-VM', 'Set-VM', 'Start-VM', 'Stop-VM', 'Resume-VM', 'Remove-VM', 'Remove-VMSavedState',
    'Checkpoint-VM', 'Restore-VMSnapshot', 'Remove-VMSnapshot', 'New-VHD', 'Enable-VMIntegrationService', 'Copy-VMFile',
    'New-VMSwitch', 'Set-VMVideo', 'Set-VMFirmware', 'Set-VMProcessor', 'Set-VMKeyProtector', 'Enable-VMTPM',
    'Add-VMGpuPartitionAdapter', 'Set-VMGpuPartitionAdapter'

function Get-ChangingCall([int] $After) {
    # The calls of cmdlets that change something, without the first $After calls of all.
    @(Get-HyperVCall | Select-Object -Skip $After | Where-Object { ($_ -split ' ')[0] -in $changingCmdlets })
}
