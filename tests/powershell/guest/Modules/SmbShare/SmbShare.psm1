# Shares: `shares` of the fake computer. CDXML on Windows. Set-SmbShare changes neither path nor access.
function ConvertTo-Share($Share) {
    [pscustomobject]@{
        Name = $Share.Name; ScopeName = '*'; Path = $Share.Path; Description = ''; EncryptData = $Share.EncryptData
        CachingMode = $Share.CachingMode
    }
}

function Write-NoShare($Cmdlet, [string] $Name) {
    Write-CdxmlError $Cmdlet 'CmdletizationQuery_NotFound_Name' ObjectNotFound (
        "No MSFT_SMBShare objects found with property 'Name' equal to '$Name'.  Verify the value of the property " +
        'and retry.')
}

function Get-SmbShare {
    [CmdletBinding(PositionalBinding = $false)] param([Parameter(Position = 0)] [string[]] $Name)
    $found = @((Get-FakeComputer).shares | Where-Object { $null -eq $Name -or $_.Name -in $Name })
    if ($found.Count -eq 0 -and $null -ne $Name) { Write-NoShare $PSCmdlet "$Name" }
    foreach ($one in $found) { ConvertTo-Share $one }
}

function New-SmbShare {
    [CmdletBinding(SupportsShouldProcess, PositionalBinding = $false)]
    param(
        [Parameter(Mandatory, Position = 0)] [string] $Name, [Parameter(Mandatory, Position = 1)] [string] $Path,
        [string[]] $ChangeAccess, [string[]] $FullAccess, [string[]] $ReadAccess, [bool] $EncryptData,
        [ValidateSet('None', 'Manual', 'Documents', 'Programs', 'BranchCache', 'Unknown')]
        [string] $CachingMode = 'Manual'
    )
    $computer = Get-FakeComputer
    if ($computer.shareDenied) {
        Write-CdxmlError $PSCmdlet 'Windows System Error 5' PermissionDenied 'Access is denied.'
        return
    }
    foreach ($who in @($ChangeAccess) + @($FullAccess) + @($ReadAccess) | Where-Object { $_ }) {
        if (@($computer.users | Where-Object { $_.Name -eq $who }).Count -eq 0) {
            Write-CdxmlError $PSCmdlet 'Windows System Error 1332' NotSpecified `
                'No mapping between account names and security IDs was done.'
            return
        }
    }
    Add-Change "New-SmbShare $Name"
    $share = @{
        Name = $Name; Path = $Path; EncryptData = $EncryptData; CachingMode = $CachingMode
        access = [System.Collections.ArrayList]@($ChangeAccess | ForEach-Object { "$env:COMPUTERNAME\$_" })
    }
    $null = $computer.shares.Add($share)
    ConvertTo-Share $share
}

function Set-SmbShare {
    [CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High', PositionalBinding = $false)]
    param(
        [Parameter(Mandatory, Position = 0)] [string[]] $Name, [bool] $EncryptData,
        [ValidateSet('None', 'Manual', 'Documents', 'Programs', 'BranchCache', 'Unknown')] [string] $CachingMode,
        [switch] $Force
    )
    $found = @((Get-FakeComputer).shares | Where-Object { $_.Name -in $Name })
    if ($found.Count -eq 0) { Write-NoShare $PSCmdlet "$Name" }
    foreach ($one in $found) {
        Add-Change "Set-SmbShare $Name"
        if ($PSBoundParameters.ContainsKey('EncryptData')) { $one.EncryptData = $EncryptData }
        if ($PSBoundParameters.ContainsKey('CachingMode')) { $one.CachingMode = $CachingMode }
    }
}

function Remove-SmbShare {
    [CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High', PositionalBinding = $false)]
    param([Parameter(Mandatory, Position = 0)] [string[]] $Name, [switch] $Force)
    $found = @((Get-FakeComputer).shares | Where-Object { $_.Name -in $Name })
    if ($found.Count -eq 0) { Write-NoShare $PSCmdlet "$Name" }
    foreach ($one in $found) { Add-Change "Remove-SmbShare $Name"; (Get-FakeComputer).shares.Remove($one) }
}

function Get-SmbShareAccess {
    [CmdletBinding(PositionalBinding = $false)] param([Parameter(Mandatory, Position = 0)] [string[]] $Name)
    $found = @((Get-FakeComputer).shares | Where-Object { $_.Name -in $Name })
    if ($found.Count -eq 0) { Write-NoShare $PSCmdlet "$Name" }
    foreach ($one in $found) {
        foreach ($who in $one.access) {
            # 'VM\exchange' has Change; other rights follow the name: 'Everyone Full', 'VM\exchange Deny'.
            $name, $right = $who -split ' '
            [pscustomobject]@{
                Name = $one.Name; ScopeName = '*'; AccountName = $name
                AccessControlType = $(if ($right -eq 'Deny') { 'Deny' } else { 'Allow' })
                AccessRight = $(if ($right -in $null, 'Deny') { 'Change' } else { $right })
            }
        }
    }
}

Export-ModuleMember -Function *-SmbShare*
