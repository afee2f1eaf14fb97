# Network adapters: `adapters` of the fake computer, disabled and disconnected ones as well. CDXML on Windows.
function Get-NetAdapter {
    [CmdletBinding(DefaultParameterSetName = 'ByName', PositionalBinding = $false)]
    param(
        [Parameter(Position = 0)] [Alias('ifAlias', 'InterfaceAlias')] [string[]] $Name, [switch] $IncludeHidden,
        [switch] $Physical
    )
    foreach ($one in (Get-FakeComputer).adapters) {
        if ($Physical -and $one.Virtual) { continue }
        [pscustomobject]@{
            Name = $one.Name; InterfaceAlias = $one.Name
            ifIndex = [uint32] $one.ifIndex; InterfaceIndex = [uint32] $one.ifIndex
            InterfaceDescription = $one.InterfaceDescription; Status = $one.Status; Virtual = $one.Virtual
        }
    }
}
