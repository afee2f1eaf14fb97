# Get-CimInstance answers with `cim` of the fake computer.
function Get-CimInstance {
    [CmdletBinding(DefaultParameterSetName = 'ClassNameComputerSet')]
    param(
        [Parameter(Mandatory, Position = 0)] [string] $ClassName,
        [Alias('NS')] [string] $Namespace,
        [string] $Filter
    )
    $all = (Get-FakeComputer).cim[$ClassName]
    if ($null -eq $all) {
        Write-BinaryError $PSCmdlet 'HRESULT 0x80041010' MetadataError ([System.InvalidOperationException]::new(
            'Invalid class'))
        return
    }
    foreach ($one in $all) { [pscustomobject] $one }
}
