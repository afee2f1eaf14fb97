# Defender: `defender` of the fake computer is on or off. CDXML on Windows. Without Defender there is no such module.
function Write-Off($Cmdlet) {
    Write-CdxmlError $Cmdlet 'HRESULT 0x800106ba' NotSpecified `
        'Operation failed with the following error: 0x800106ba. Operation: MpPreference. Target: ConfigListExtension.'
}

function Get-MpPreference {
    [CmdletBinding(PositionalBinding = $false)] param()
    if ((Get-FakeComputer).defender -ne 'on') { Write-Off $PSCmdlet; return }
    $excluded = (Get-FakeComputer).exclusions
    [pscustomobject]@{
        ExclusionPath = $(if ($excluded.Count -gt 0) { [string[]] $excluded } else { $null })
        DisableRealtimeMonitoring = $false
    }
}

function Add-MpPreference {
    [CmdletBinding(PositionalBinding = $false)] param([string[]] $ExclusionPath, [switch] $Force)
    if ((Get-FakeComputer).defender -ne 'on') { Write-Off $PSCmdlet; return }
    Add-Change "Add-MpPreference $ExclusionPath"
    foreach ($one in $ExclusionPath) {
        if ($one -notin (Get-FakeComputer).exclusions) { $null = (Get-FakeComputer).exclusions.Add($one) }
    }
}

Export-ModuleMember -Function *-MpPreference
