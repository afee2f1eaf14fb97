# Network profiles: `profiles` of the fake computer. CDXML on Windows.
function Get-NetConnectionProfile {
    [CmdletBinding(PositionalBinding = $false)] param()
    foreach ($one in (Get-FakeComputer).profiles) { [pscustomobject] $one }
}

function Set-NetConnectionProfile {
    [CmdletBinding(SupportsShouldProcess, PositionalBinding = $false)]
    param(
        [Parameter(ValueFromPipeline)] [psobject[]] $InputObject,
        [ValidateSet('Public', 'Private', 'DomainAuthenticated')] [string] $NetworkCategory
    )
    process {
        foreach ($one in $InputObject) {
            foreach ($it in (Get-FakeComputer).profiles) {
                if ($it.InterfaceIndex -eq $one.InterfaceIndex) {
                    Add-Change "Set-NetConnectionProfile $($it.Name)"
                    $it.NetworkCategory = $NetworkCategory
                }
            }
        }
    }
}
