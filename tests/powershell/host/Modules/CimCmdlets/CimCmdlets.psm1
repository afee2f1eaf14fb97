# Get-CimInstance and Invoke-CimMethod over what a test sets: Set-CimInstances CLASS INSTANCES, Set-CimMethod METHOD
# BLOCK (called with the instance and the arguments), Set-CimFault CLASS MESSAGE.
Set-StrictMode -Version 3.0
$script:Instances = @{}; $script:Methods = @{}; $script:Faults = @{}
function Reset-Cim { $Instances.Clear(); $Methods.Clear(); $Faults.Clear() }
function Set-CimInstances([string] $ClassName, [object[]] $Value) { $Instances[$ClassName] = $Value }
function Set-CimMethod([string] $Name, [scriptblock] $Block) { $Methods[$Name] = $Block }
function Set-CimFault([string] $ClassName, [string] $Message) { $Faults[$ClassName] = $Message }

function Get-CimInstance {
    [CmdletBinding(DefaultParameterSetName = 'ClassNameComputerSet')]
    param(
        [Parameter(Position = 0, Mandatory, ParameterSetName = 'ClassNameComputerSet', ValueFromPipelineByPropertyName)]
        [string] $ClassName,
        [Parameter(ValueFromPipelineByPropertyName)] [string] $Filter,
        [Parameter(ValueFromPipelineByPropertyName)] [string] $Namespace = 'root/cimv2'
    )
    if ($Faults.ContainsKey($ClassName)) {
        $record = [System.Management.Automation.ErrorRecord]::new([System.Exception]::new($Faults[$ClassName]),
            'HRESULT 0x80041003', 'PermissionDenied', $null)
        $own = $MyInvocation.BoundParameters.ContainsKey('ErrorAction')
        if (-not $own -and "$($PSCmdlet.SessionState.PSVariable.GetValue('ErrorActionPreference'))" -eq 'Stop') {
            $PSCmdlet.ThrowTerminatingError($record)
        }
        $PSCmdlet.WriteError($record)
        return
    }
    if (-not $Instances.ContainsKey($ClassName)) { return }
    $found = $Instances[$ClassName]
    if ($Filter -match "^\s*(\w+)\s*=\s*'([^']*)'\s*$") {
        $field, $wanted = $Matches[1], $Matches[2]
        $found = $found | Where-Object { "$($_.$field)" -eq $wanted }
    }
    $found
}

function Invoke-CimMethod {
    [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'ClassNameComputerSet')]
    param(
        [Parameter(Position = 0, Mandatory, ValueFromPipeline)] [Alias('CimInstance')] $InputObject,
        [Parameter(Position = 1, Mandatory)] [Alias('Name')] [string] $MethodName,
        [Parameter(Position = 2)] [System.Collections.IDictionary] $Arguments
    )
    process {
        if ($null -eq $InputObject) { return }
        if (-not $PSCmdlet.ShouldProcess("$InputObject", $MethodName)) { return }
        try {
            & $Methods[$MethodName] $InputObject $Arguments
        } catch {
            # An error of the cmdlet, which continues unless the caller's preference is Stop.
            $own = $MyInvocation.BoundParameters.ContainsKey('ErrorAction')
            if (-not $own -and "$($PSCmdlet.SessionState.PSVariable.GetValue('ErrorActionPreference'))" -eq 'Stop') {
                $PSCmdlet.ThrowTerminatingError($_)
            }
            $PSCmdlet.WriteError($_)
        }
    }
}
Export-ModuleMember -Function '*-Cim*'
