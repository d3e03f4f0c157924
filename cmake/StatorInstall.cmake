# install(): the binary, what it runs, its completion for bash, the public header with its
# pkg-config file and CMake package, the licence.
# Header-only parts are independent of the architecture and find their prefix from where they lie.

include(CMakePackageConfigHelpers)

if(TARGET stator)
  install(TARGETS stator RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  install(TARGETS stator-exec RUNTIME DESTINATION "${CMAKE_INSTALL_LIBEXECDIR}/stator")
  install(
    FILES "${PROJECT_SOURCE_DIR}/processor/cli/stator.bash"
    DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions"
    RENAME stator)
endif()

set(_st_header "${PROJECT_SOURCE_DIR}/runtimes/native/include/stator/handler.h")
install(FILES "${_st_header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/stator" OPTIONAL)
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

configure_file("${PROJECT_SOURCE_DIR}/cmake/stator-handler.pc.in"
               "${PROJECT_BINARY_DIR}/generated/stator-handler.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/generated/stator-handler.pc"
        DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")

add_library(StatorHandler INTERFACE)
target_include_directories(StatorHandler INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set(_st_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/StatorHandler")
install(TARGETS StatorHandler EXPORT StatorHandlerTargets)
install(EXPORT StatorHandlerTargets NAMESPACE StatorHandler:: DESTINATION "${_st_package_dir}")
configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/StatorHandlerConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/generated/StatorHandlerConfig.cmake"
  INSTALL_DESTINATION "${_st_package_dir}"
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/generated/StatorHandlerConfigVersion.cmake"
  COMPATIBILITY SameMajorVersion
  ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/generated/StatorHandlerConfig.cmake"
              "${PROJECT_BINARY_DIR}/generated/StatorHandlerConfigVersion.cmake"
        DESTINATION "${_st_package_dir}")
