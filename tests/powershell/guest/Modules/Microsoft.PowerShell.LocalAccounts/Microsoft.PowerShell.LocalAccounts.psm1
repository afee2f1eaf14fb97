# Local users: `users` of the fake computer. A compiled module on Windows: it reads the caller's preferences.
function ConvertTo-LocalUser($User) {
    [pscustomobject]@{
        AccountExpires = $null; Description = ''; Enabled = $User.Enabled; FullName = ''
        PasswordExpires = if ($User.NeverExpires) { $null } else { [datetime]::Today.AddDays(42) }
        UserMayChangePassword = $true; PasswordRequired = $true; Name = $User.Name
        SID = [System.Security.Principal.SecurityIdentifier]::new($User.SID); PrincipalSource = 'Local'
        ObjectClass = 'User'
    }
}

function Get-Plain([securestring] $Password) { [pscredential]::new('x', $Password).GetNetworkCredential().Password }

function Write-NoUser($Cmdlet, [string] $Name) {
    Write-BinaryError $Cmdlet 'UserNotFound' ObjectNotFound ([System.InvalidOperationException]::new(
        "User $Name was not found."))
}

function Test-Policy($Cmdlet, [string] $Plain) {
    if ($Plain.Length -ge (Get-FakeComputer).passwordMinimum) { return $true }
    Write-BinaryError $Cmdlet 'InvalidPassword' InvalidArgument ([System.InvalidOperationException]::new(
        'Unable to update the password. The value provided for the new password does not meet the length, ' +
        'complexity, or history requirements of the domain.'))
    $false
}

function Get-LocalUser {
    [CmdletBinding(DefaultParameterSetName = 'Default')]
    param([Parameter(Position = 0, ValueFromPipeline)] [ValidateNotNull()] [string[]] $Name)
    $users = (Get-FakeComputer).users
    if (-not $PSBoundParameters.ContainsKey('Name')) { $Name = '*' }
    foreach ($one in $Name) {
        $found = @($users | Where-Object { $_.Name -like $one })
        if ($found.Count -eq 0) { Write-NoUser $PSCmdlet $one }
        foreach ($user in $found) { ConvertTo-LocalUser $user }
    }
}

function New-LocalUser {
    [CmdletBinding(DefaultParameterSetName = 'Password', SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0)] [ValidateNotNullOrEmpty()] [ValidateLength(1, 20)] [string] $Name,
        [Parameter(Mandatory)] [securestring] $Password,
        [ValidateLength(0, 48)] [string] $Description,
        [switch] $PasswordNeverExpires, [switch] $AccountNeverExpires, [switch] $UserMayNotChangePassword,
        [switch] $Disabled
    )
    if (-not $PSCmdlet.ShouldProcess($Name, 'Create new local user')) { return }
    $computer = Get-FakeComputer
    if (@($computer.users | Where-Object { $_.Name -eq $Name }).Count -gt 0) {
        Write-BinaryError $PSCmdlet 'UserExists' ResourceExists ([System.InvalidOperationException]::new(
            "User $Name already exists."))
        return
    }
    $plain = Get-Plain $Password
    if (-not (Test-Policy $PSCmdlet $plain)) { return }
    Add-Change "New-LocalUser $Name"
    $user = @{ Name = $Name; SID = "S-1-5-21-11-22-33-$(1010 + $computer.users.Count)"; Enabled = -not $Disabled
        Password = $plain; NeverExpires = [bool] $PasswordNeverExpires }
    $null = $computer.users.Add($user)
    ConvertTo-LocalUser $user
}

function Set-LocalUser {
    [CmdletBinding(DefaultParameterSetName = 'Name', SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0, ParameterSetName = 'Name')] [ValidateNotNull()] [string] $Name,
        [securestring] $Password, [bool] $PasswordNeverExpires, [string] $Description, [bool] $UserMayChangePassword
    )
    if (-not $PSCmdlet.ShouldProcess($Name, 'Modify local user')) { return }
    $found = @((Get-FakeComputer).users | Where-Object { $_.Name -eq $Name })
    if ($found.Count -eq 0) { Write-NoUser $PSCmdlet $Name; return }
    if ($PSBoundParameters.ContainsKey('Password')) {
        $plain = Get-Plain $Password
        if (-not (Test-Policy $PSCmdlet $plain)) { return }
        $found[0].Password = $plain
    }
    Add-Change "Set-LocalUser $Name"
    if ($PSBoundParameters.ContainsKey('PasswordNeverExpires')) { $found[0].NeverExpires = $PasswordNeverExpires }
}

function Enable-LocalUser {
    [CmdletBinding(DefaultParameterSetName = 'Name', SupportsShouldProcess)]
    param([Parameter(Mandatory, Position = 0, ParameterSetName = 'Name')] [ValidateNotNullOrEmpty()] [string[]] $Name)
    if (-not $PSCmdlet.ShouldProcess("$Name", 'Enable local user')) { return }
    $found = @((Get-FakeComputer).users | Where-Object { $_.Name -in $Name })
    if ($found.Count -eq 0) { Write-NoUser $PSCmdlet "$Name"; return }
    foreach ($one in $found) { Add-Change "Enable-LocalUser $($one.Name)"; $one.Enabled = $true }
}

function Get-LocalGroupMember {
    [CmdletBinding(DefaultParameterSetName = 'Default')]
    param(
        [Parameter(Mandatory, ParameterSetName = 'SecurityIdentifier')]
        [System.Security.Principal.SecurityIdentifier] $SID
    )
    if ("$SID" -ne 'S-1-5-32-544') { throw "the fake computer has no group $SID" }
    if ((Get-FakeComputer).administratorsUnknown) {
        Write-BinaryError $PSCmdlet 'An unspecified error occurred.' NotSpecified (
            [System.InvalidOperationException]::new('Failed to compare two elements in the array.'))
        return
    }
    foreach ($one in (Get-FakeComputer).administrators) {
        [pscustomobject]@{
            Name = $one; SID = [System.Security.Principal.SecurityIdentifier]::new($one); PrincipalSource = 'Local'
            ObjectClass = 'User'
        }
    }
}

Export-ModuleMember -Function 'Get-LocalUser', 'New-LocalUser', 'Set-LocalUser', 'Enable-LocalUser',
    'Get-LocalGroupMember'
